//! While journals are shipped: the sink is told which log this replica has, also one that a person made,
//! and is asked how many replicas it refuses.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use host::log::Log;
use serde_json::json;
use signing_core::replica::ReplicaName;
use tokio::time::sleep;
use tokio_postgres::Client;

use super::gauges::Gauges;
use super::table::VolumeContent;
use crate::event::Owner;
use crate::postgres::{DatabaseError, Place};
use crate::source;

/// How often the volume is looked at.
const EVERY: Duration = Duration::from_secs(5);

/// Everything that the loop has.
#[derive(Debug)]
pub(crate) struct Watch {
    place: Place,
    name: ReplicaName,
    journals: Vec<(Owner, PathBuf)>,
    gauges: Gauges,
    log: Log,
    /// What this session noted already, so that a quiet replica writes nothing.
    noted: BTreeMap<Owner, String>,
    /// The failure that was logged last.
    failed: Option<String>,
}

impl Watch {
    pub(crate) fn new(
        place: Place,
        name: ReplicaName,
        journals: Vec<(Owner, PathBuf)>,
        gauges: Gauges,
        log: Log,
    ) -> Self {
        Self { place, name, journals, gauges, log, noted: BTreeMap::new(), failed: None }
    }

    /// Runs until the process ends.
    pub(crate) async fn run(mut self) {
        loop {
            let error = match self.place.connect().await {
                Ok(client) => self.session(client).await,
                Err(error) => error,
            };
            let words = error.to_string();
            if self.failed.as_ref() != Some(&words) {
                let fields = json!({"replica": self.name.as_str(), "error": words});
                self.log.error("the replica cannot be registered", fields);
            }
            self.failed = Some(words);
            sleep(EVERY).await;
        }
    }

    async fn session(&mut self, mut client: Client) -> DatabaseError {
        if let Err(error) = self.place.make_replicas(&client).await {
            return error;
        }
        // It may be another database than before.
        self.noted.clear();
        loop {
            match self.turn(&mut client).await {
                Ok(()) => self.failed = None,
                Err(error) => return error,
            }
            sleep(EVERY).await;
        }
    }

    async fn turn(&mut self, client: &mut Client) -> Result<(), DatabaseError> {
        for (owner, directory) in &self.journals {
            // A journal that is not there is no word about the volume: only `register` asks for one.
            let Ok((log, _)) = source::identify(directory) else { continue };
            let origin = log.origin();
            if self.noted.get(owner) == Some(&origin) {
                continue;
            }
            let here = VolumeContent::Journal(Some(origin.clone()));
            // A replica that is first heard of now has its journal: no nonce makes it new again.
            self.place.register(client, &self.name, *owner, "", &here).await?;
            self.noted.insert(*owner, origin);
        }
        self.gauges.set(self.place.count_replicas(client).await?);
        Ok(())
    }
}
