//! `status`: what the proxy says of itself, and how far the trail that runs beside it is.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;
use signing_core::admin::path;

use crate::client;
use crate::show::{self, Said};
use crate::socket::Socket;

/// Where a trail shows its status if its configuration does not say otherwise.
const TRAIL: &str = "127.0.0.1:9465";

/// What is asked.
#[derive(Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    pub(crate) socket: Socket,
    /// Where signing-trail shows its status: metrics.listen of its configuration. Without this, a trail that answers at
    /// 127.0.0.1:9465 is shown, one that does not is left out, and neither decides the exit code.
    #[arg(long, value_name = "HOST:PORT", env = "SIGNCTL_TRAIL")]
    trail: Option<String>,
}

/// Asks both; success if the proxy signs and a trail that was named is well.
pub(crate) fn run(
    flags: &Flags,
    socket: &std::path::Path,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let mut reply = client::get(socket, path::STATUS)?;
    let trail = if reply.refusal().is_some() { None } else { trail(flags.trail.as_deref())? };
    if let (Some(body), Some(trail)) = (reply.body.as_object_mut(), &trail) {
        body.insert("trail".to_owned(), trail.as_ref().map_or_else(unavailable, Value::clone));
    }
    let said = |reply: &client::Reply| {
        let Said { mut words, is_good } = show::status(&reply.read()?, &reply.read()?);
        let is_well = match &trail {
            None => true,
            Some(Ok(status)) => {
                for line in trail::status::lines(status).lines() {
                    words.push_str(&format!("\ntrail: {line}"));
                }
                // Any user of this machine may answer at the usual place, and a trail there may be of another proxy: it is
                // shown, and only one that was named decides.
                flags.trail.is_none() || status.get("ok").and_then(Value::as_bool) == Some(true)
            }
            Some(Err(why)) => {
                words.push_str(&format!("\ntrail: NOT REACHED: {why}"));
                false
            }
        };
        Ok(Said { words, is_good: is_good && is_well })
    };
    show::reply(&reply, as_json, true, said)
}

fn unavailable(why: &String) -> Value {
    serde_json::json!({"ok": false, "trouble": why})
}

/// What the trail says; the inner error says why one that was named does not.
fn trail(named: Option<&str>) -> anyhow::Result<Option<Result<Value, String>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let address = named.unwrap_or(TRAIL);
    let asked = runtime.block_on(trail::status::ask(address));
    // A name that hangs holds nobody up.
    runtime.shutdown_background();
    Ok(match (asked, named) {
        // Whatever else answers there is no trail.
        (Ok(status), _) if status.get("journals").is_some() => Some(Ok(status)),
        (_, None) => None,
        (Ok(_), Some(_)) => Some(Err(format!("{address}: what answers there is no signing-trail"))),
        (Err(why), Some(_)) => Some(Err(format!("{address}: {why}; is signing-trail running?"))),
    })
}
