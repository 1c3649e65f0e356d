//! The calls that a key of the KMS for tests received, answered or not.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderMap;
use time::OffsetDateTime;

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
    /// When it came.
    pub at: OffsetDateTime,
    /// The access key that it was signed with; empty: none.
    pub access_key: String,
    /// What KMS's own log says of it.
    pub logged: Logged,
}

/// What KMS's own log says of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logged {
    /// Nothing: it did not come to KMS as a whole, or something before KMS answered.
    Nothing,
    /// KMS did it, whatever became of the answer.
    Done,
    /// KMS refused it with that code.
    Refused(&'static str),
}

/// Those of one key.
#[derive(Debug, Default)]
pub(super) struct Log {
    received: Mutex<VecDeque<(u64, Received)>>,
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
    /// Takes a call; returns its number, and the id of its answer.
    pub(super) fn take(
        &self,
        operation: Operation,
        headers: &HeaderMap,
        access_key: &str,
    ) -> (u64, String) {
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
        let (access_key, logged) = (access_key.to_owned(), Logged::Nothing);
        let (at, id) = (OffsetDateTime::now_utc(), request_id.clone());
        let call = Received { operation, user_agents, request_id: id, at, access_key, logged };
        received.push_back((number, call));
        (number, request_id)
    }

    /// What its own log says of the call with that number.
    pub(super) fn end(&self, number: u64, logged: Logged) {
        let mut received = self.received.lock().unwrap();
        let call = received.iter_mut().rev().find(|(other, _)| *other == number);
        if let Some((_, call)) = call {
            call.logged = logged;
        }
    }

    pub(super) fn all(&self) -> Vec<Received> {
        self.received.lock().unwrap().iter().map(|(_, call)| call.clone()).collect()
    }
}
