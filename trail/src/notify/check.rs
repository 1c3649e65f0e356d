//! What is wrong with the files that receivers need, every mistake at once.

use std::path::Path;

use super::client::Loaded;
use super::form::key;
use crate::config::{Config, Endpoint, Form};

/// The path of the policy service.
pub(crate) const POLICY_PATH: &str = "/sentinelnet/check";

/// Every mistake.
pub(crate) fn mistakes(config: &Config) -> Vec<String> {
    let mut mistakes = Vec::new();
    let notify = &config.notify;
    if !notify.webhooks.is_empty() && !is_directory(&notify.state_dir) {
        mistakes.push(format!(
            "notify.state_dir: {} is no directory; make one that only the user of signing-trail may write",
            notify.state_dir.display()
        ));
    }
    for (index, webhook) in notify.webhooks.iter().enumerate() {
        let at = format!("notify.webhooks[{index}]");
        mistakes.extend(of_endpoint(&at, &webhook.endpoint, ""));
        if let Form::Json { key_file } = &webhook.form
            && let Err(why) = key(key_file)
        {
            mistakes.push(format!("{at}.hmac_key_file: {why}"));
        }
    }
    if let Some(policy) = &config.policy {
        mistakes.extend(of_endpoint("policy", &policy.endpoint, POLICY_PATH));
    }
    mistakes
}

fn of_endpoint(at: &str, endpoint: &Endpoint, path: &str) -> Option<String> {
    let (key, what) = Loaded::read(endpoint, path).err()?;
    Some(format!("{at}.{key}: {what}"))
}

fn is_directory(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_dir())
}
