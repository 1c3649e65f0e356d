//! The calls that a key of the KMS for tests received, answered or not.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderMap;

/// So many are kept, the newest: a crowd would fill the memory.
const KEPT_MAX: usize = 4096;

/// Operations that faults are set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// `Sign`.
    Sign,
    /// `GetPublicKey`.
    GetPublicKey,
    /// `DescribeKey`.
    DescribeKey,
}

/// One call, as its log would show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// What was asked for.
    pub operation: Operation,
    /// Who asked, by both headers that say so.
    pub user_agents: [String; 2],
    /// The `x-amzn-RequestId` of its answer, if it had one.
    pub request_id: String,
}

/// Those of one key.
#[derive(Debug, Default)]
pub(super) struct Log {
    received: Mutex<VecDeque<Received>>,
    /// What every answer's id is in place of one of its own.
    pub(super) named: Mutex<Option<&'static str>>,
}

impl Operation {
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        match headers.get("x-amz-target")?.to_str().ok()? {
            "TrentService.Sign" => Some(Self::Sign),
            "TrentService.GetPublicKey" => Some(Self::GetPublicKey),
            "TrentService.DescribeKey" => Some(Self::DescribeKey),
            _ => None,
        }
    }
}

impl Received {
    /// The attempt that it says it is.
    #[must_use]
    pub fn attempt(&self) -> Option<&str> {
        self.user_agents[0].split_once(" attempt/").map(|(_, attempt)| attempt)
    }
}

impl Log {
    /// Takes a call; returns the id of its answer.
    pub(super) fn take(&self, operation: Operation, headers: &HeaderMap) -> String {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let named = self.named.lock().unwrap().map(str::to_owned);
        let request_id = named.unwrap_or_else(|| format!("00000000-0000-4000-9000-{number:012x}"));
        let text = |name| {
            let all: Vec<_> =
                headers.get_all(name).iter().map(|one| one.to_str().unwrap()).collect();
            all.join(", ")
        };
        let user_agents = ["user-agent", "x-amz-user-agent"].map(text);
        let mut received = self.received.lock().unwrap();
        if received.len() == KEPT_MAX {
            received.pop_front();
        }
        received.push_back(Received { operation, user_agents, request_id: request_id.clone() });
        request_id
    }

    pub(super) fn all(&self) -> Vec<Received> {
        self.received.lock().unwrap().iter().cloned().collect()
    }
}
