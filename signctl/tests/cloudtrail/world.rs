//! What happens between proxies and a KMS, made up from a seed: records as journals have them, records as CloudTrail
//! has them, and what a comparison has to find.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use signctl::cloudtrail::call::Reading;
use signctl::cloudtrail::compare::{Compare, Known};
use signctl::cloudtrail::event;
use signctl::cloudtrail::report::Report;
use signing_core::journal::{Kind, Outline, instant};
use time::OffsetDateTime;

pub(crate) const KEY: &str = "arn:aws:kms:eu-1:111122223333:key/mrk-1";
const OTHER_KEY: &str = "arn:aws:kms:eu-1:111122223333:key/other";
const OURS: &str = "arn:aws:iam::111122223333:role/proxy";
const EVE: &str = "arn:aws:iam::111122223333:user/eve";
/// 2026-11-26T05:15:00Z.
const BEGIN: i64 = 1_795_670_100;
const GRACE_S: i64 = 900;
/// Nothing but plain signatures so near to the ends, where nothing can be missing.
const QUIET_S: i64 = GRACE_S + 400;

/// What may happen to a request, or beside one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scenario {
    /// A signature.
    Plain,
    /// The first call was throttled, the second one signed.
    Retried,
    /// KMS signed, and its answer never came.
    TimedOutSigned,
    /// KMS never got it.
    TimedOutUnsigned,
    /// KMS denied it.
    Denied,
    /// A canary.
    Canary,
    /// CloudTrail delivers a call twice.
    Twice,
    /// KMS signed, and its log lacks our User-Agent.
    NoAgent,
    /// The process was killed after KMS signed and before the outcome was on disk.
    Crashed,
    /// It was killed before even the intent was on disk.
    Unrecorded,
    /// A signature that KMS never logged.
    Ghost,
    /// The record says that KMS did not sign, and it did.
    Contradicted,
    /// Somebody signs with our key.
    Bypass,
    /// So, with the User-Agent of a call of ours.
    CopiedAgent,
    /// So, with our User-Agent's form and the proxy's own credentials.
    ForgedAgent,
    /// Somebody is denied.
    StrangerDenied,
    /// Somebody signs with another key.
    OtherKey,
    /// Somebody verifies with our key.
    Verify,
}

impl Scenario {
    pub(crate) const ALL: [Self; 18] = [
        Self::Plain,
        Self::Retried,
        Self::TimedOutSigned,
        Self::TimedOutUnsigned,
        Self::Denied,
        Self::Canary,
        Self::Twice,
        Self::NoAgent,
        Self::Crashed,
        Self::Unrecorded,
        Self::Ghost,
        Self::Contradicted,
        Self::Bypass,
        Self::CopiedAgent,
        Self::ForgedAgent,
        Self::StrangerDenied,
        Self::OtherKey,
        Self::Verify,
    ];
}

/// Numbers that follow from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.next() % most.max(1)
    }
}

/// What has to be found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) agreed: u64,
    pub(crate) settled_signed: u64,
    pub(crate) settled_not_signed: u64,
    pub(crate) unrecorded: u64,
    pub(crate) contradicted: u64,
    pub(crate) other_keys: u64,
    pub(crate) duplicates: u64,
    pub(crate) refused_ours: u64,
    pub(crate) refused_others: u64,
    /// By KMS's names for them.
    pub(crate) bypass: BTreeSet<String>,
    /// By the attempts.
    pub(crate) ghost: BTreeSet<String>,
}

impl Found {
    pub(crate) fn of(report: &Report) -> Self {
        let names = |found: &signctl::cloudtrail::report::Findings, name: &str| {
            assert_eq!(usize::try_from(found.count), Ok(found.named.len()));
            let named = found.named.iter().map(|one| one.json[name].as_str().unwrap().to_owned());
            named.collect()
        };
        let refused = |is_ours: bool| {
            let of = report.refused.iter().filter(|((ours, ..), _)| *ours == is_ours);
            of.map(|(_, refused)| refused.count).sum()
        };
        Self {
            agreed: report.agreed,
            settled_signed: report.settled_signed.count,
            settled_not_signed: report.settled_not_signed.count,
            unrecorded: report.unrecorded.values().map(|found| found.count).sum(),
            contradicted: report.contradicted.count,
            other_keys: report.other_keys,
            duplicates: report.duplicates,
            refused_ours: refused(true),
            refused_others: refused(false),
            bypass: names(&report.bypass, "request_id"),
            ghost: names(&report.ghost, "attempt"),
        }
    }
}

/// A journal that is being written.
struct Journal {
    reading: Reading,
    seq: u64,
}

/// The world so far.
pub(crate) struct World {
    pub(crate) random: Random,
    compare: Compare,
    journals: Vec<Journal>,
    /// Seconds since 1970.
    now: i64,
    calls: u64,
    pub(crate) expected: Found,
    pub(crate) told: BTreeMap<Scenario, u64>,
    /// Records of CloudTrail that are given at the end, in any order.
    held: Vec<Vec<u8>>,
    /// The newest User-Agent of a call of ours.
    agent: String,
}

impl World {
    /// `most_bytes` are sorted in memory.
    pub(crate) fn new(seed: u64, journals: u16, most_bytes: usize) -> Self {
        let reading = |number| Reading::new(number, &format!("{number:032x}"));
        let mut world = Self {
            random: Random(seed),
            compare: Compare::new(&std::env::temp_dir(), most_bytes),
            journals: (0..journals).map(|n| Journal { reading: reading(n), seq: 0 }).collect(),
            now: BEGIN,
            calls: 0,
            expected: Found::default(),
            told: BTreeMap::new(),
            held: Vec::new(),
            agent: String::new(),
        };
        for at in 0..usize::from(journals) {
            world.record(at, Kind::Init, json!({}));
            world.record(at, Kind::Start, json!({}));
        }
        world.pass(QUIET_S);
        world
    }

    /// Time passes, and something shows that KMS's log goes on.
    fn pass(&mut self, seconds: i64) {
        self.tell(Scenario::Verify);
        self.now += seconds;
        self.tell(Scenario::Verify);
    }

    /// The next thing happens.
    pub(crate) fn tell(&mut self, scenario: Scenario) {
        *self.told.entry(scenario).or_default() += 1;
        let at = usize::try_from(self.random.below(self.journals.len() as u64)).unwrap();
        let order = format!("{:016x}{:016x}", self.random.next(), self.random.next());
        let [first, second] = [1, 2].map(|number| format!("{order}-{number}"));
        let request = |world: &mut Self| {
            world.calls += 1;
            format!("00000000-0000-4000-8000-{:012x}", world.calls)
        };
        match scenario {
            Scenario::Plain | Scenario::Twice | Scenario::NoAgent | Scenario::Ghost => {
                let (intent, id) = (self.intent(at, &order), request(self));
                let agent =
                    if scenario == Scenario::NoAgent { "-".to_owned() } else { agent(&first) };
                if scenario == Scenario::Ghost {
                    self.expected.ghost.insert(first.clone());
                } else {
                    self.expected.agreed += 1;
                    self.event(&id, &agent, OURS, None);
                }
                if scenario == Scenario::Twice {
                    self.expected.duplicates += 1;
                    self.event(&id, &agent, OURS, None);
                }
                self.outcome(
                    at,
                    Kind::Signed,
                    intent,
                    json!({"attempt": first, "upstream_request_id": id}),
                );
                self.agent = agent;
            }
            Scenario::Retried => {
                let (intent, ids) = (self.intent(at, &order), [request(self), request(self)]);
                self.event(&ids[0], &agent(&first), OURS, Some("ThrottlingException"));
                self.event(&ids[1], &agent(&second), OURS, None);
                let earlier = json!([{"attempt": first, "reason": "throttled", "upstream": "aws-kms", "region": "eu-1",
                    "upstream_request_id": ids[0]}]);
                let more = json!({"attempt": second, "upstream_request_id": ids[1], "earlier_attempts": earlier});
                self.outcome(at, Kind::Signed, intent, more);
                self.expected.agreed += 1;
                self.expected.refused_ours += 1;
            }
            Scenario::TimedOutSigned | Scenario::TimedOutUnsigned => {
                let (intent, id) = (self.intent(at, &order), request(self));
                if scenario == Scenario::TimedOutSigned {
                    self.event(&id, &agent(&first), OURS, None);
                    self.expected.settled_signed += 1;
                } else {
                    self.expected.settled_not_signed += 1;
                }
                self.now += 2;
                self.outcome(
                    at,
                    Kind::Failed,
                    intent,
                    json!({"attempt": first, "reason": "indeterminate"}),
                );
            }
            Scenario::Denied | Scenario::Contradicted => {
                let (intent, id) = (self.intent(at, &order), request(self));
                let denied = (scenario == Scenario::Denied).then_some("AccessDenied");
                self.event(&id, &agent(&first), OURS, denied);
                let more = json!({"attempt": first, "reason": "key_unavailable", "upstream_request_id": id});
                self.outcome(at, Kind::Failed, intent, more);
                self.expected.refused_ours += u64::from(denied.is_some());
                self.expected.contradicted += u64::from(denied.is_none());
            }
            Scenario::Canary => {
                let id = request(self);
                self.event(&id, &agent(&first), OURS, None);
                self.expected.agreed += 1;
                self.now += 3;
                let call = json!({"attempt": first, "operation": "Sign", "outcome": "signed", "upstream": "aws-kms",
                    "region": "eu-1", "signer_kid": "k", "upstream_request_id": id});
                self.record(at, Kind::Probes, json!({"calls": [call], "over_s": 10}));
            }
            Scenario::Crashed | Scenario::Unrecorded => {
                let id = request(self);
                if scenario == Scenario::Crashed {
                    let intent = self.intent(at, &order);
                    self.event(&id, &agent(&first), OURS, None);
                    self.now += 60;
                    self.record(at, Kind::Start, json!({}));
                    self.outcome(
                        at,
                        Kind::Failed,
                        intent,
                        json!({"attempt": order, "reason": "indeterminate"}),
                    );
                    self.expected.settled_signed += 1;
                } else {
                    self.record(at, Kind::Gate, json!({}));
                    self.event(&id, &agent(&first), OURS, None);
                    self.now += 60;
                    self.record(at, Kind::Start, json!({}));
                    self.expected.unrecorded += 1;
                }
                // What somebody does meanwhile is told apart by its time.
                self.now += 60;
            }
            Scenario::Bypass | Scenario::CopiedAgent | Scenario::ForgedAgent => {
                let id = request(self);
                let (agent, who) = match scenario {
                    Scenario::CopiedAgent if !self.agent.is_empty() => (self.agent.clone(), OURS),
                    Scenario::ForgedAgent => (agent(&first), OURS),
                    _ => ("aws-cli/2.0".to_owned(), EVE),
                };
                self.now += 60;
                self.event(&id, &agent, who, None);
                self.now += 60;
                self.expected.bypass.insert(id);
            }
            Scenario::StrangerDenied => {
                let id = request(self);
                self.event(&id, "aws-cli/2.0", EVE, Some("AccessDenied"));
                self.expected.refused_others += 1;
            }
            Scenario::OtherKey | Scenario::Verify => {
                let id = request(self);
                let mut record = record(self.now, &id, "other", EVE, None);
                if scenario == Scenario::OtherKey {
                    record["resources"][0]["ARN"] = json!(OTHER_KEY);
                    self.expected.other_keys += 1;
                } else {
                    record["eventName"] = json!("Verify");
                }
                self.hold(&record);
            }
        }
        self.now += i64::from(self.random.below(4) == 0);
    }

    /// The end of it, and what was found.
    pub(crate) fn finish(mut self) -> (Report, Found, BTreeMap<Scenario, u64>) {
        self.pass(QUIET_S);
        let mut known = Known { grace_s: GRACE_S, ..Known::default() };
        let count = self.journals.len();
        for at in 0..count {
            self.record(at, Kind::Stop, json!({}));
        }
        for Journal { reading, .. } in &mut self.journals {
            known.journals.push(reading.finish(&mut |call| self.compare.call(&call)).unwrap());
            known.losses.append(&mut reading.losses);
            known.places.append(&mut reading.places);
        }
        self.release(0);
        (self.compare.finish(known).unwrap(), self.expected, self.told)
    }

    fn intent(&mut self, at: usize, order: &str) -> u64 {
        let asked =
            json!({"attempt": order, "upstream": "aws-kms", "region": "eu-1", "signer_kid": "k"});
        self.record(at, Kind::Intent, asked)
    }

    fn outcome(&mut self, at: usize, kind: Kind, intent: u64, more: Value) {
        let mut data =
            json!({"intent": intent, "upstream": "aws-kms", "region": "eu-1", "signer_kid": "k"});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.record(at, kind, data);
    }

    fn record(&mut self, at: usize, kind: Kind, data: Value) -> u64 {
        let Journal { reading, seq } = &mut self.journals[at];
        *seq += 1;
        let time = instant(OffsetDateTime::from_unix_timestamp(self.now).unwrap());
        let outline = Outline { at: time, data, r#type: kind.word().to_owned() };
        reading.note(*seq, kind, &outline, &mut |call| self.compare.call(&call)).unwrap();
        *seq
    }

    fn event(&mut self, id: &str, agent: &str, who: &str, error: Option<&str>) {
        self.hold(&record(self.now, id, agent, who, error));
    }

    /// CloudTrail gives them in no order.
    fn hold(&mut self, record: &Value) {
        self.held.push(record.to_string().into_bytes());
        if self.held.len() > 10_000 {
            self.release(5_000);
        }
    }

    fn release(&mut self, left: usize) {
        while self.held.len() > left {
            let at = usize::try_from(self.random.below(self.held.len() as u64)).unwrap();
            let record = self.held.swap_remove(at);
            self.compare.logged(&event::read(&record).unwrap()).unwrap();
        }
    }
}

fn agent(attempt: &str) -> String {
    format!("signing-proxy/0.1.0 attempt/{attempt}")
}

fn record(at: i64, id: &str, agent: &str, who: &str, error: Option<&str>) -> Value {
    let time = signctl::cloudtrail::report::time(at);
    let mut record = json!({
        "eventVersion": "1.11", "eventTime": time, "eventSource": "kms.amazonaws.com", "eventName": "Sign",
        "awsRegion": "eu-1", "sourceIPAddress": "192.0.2.1", "userAgent": agent, "requestID": id,
        "userIdentity": {"type": "AssumedRole", "arn": format!("{who}/session"), "accountId": "111122223333",
            "sessionContext": {"sessionIssuer": {"type": "Role", "arn": who}}},
        "requestParameters": {"keyId": KEY, "messageType": "DIGEST", "signingAlgorithm": "ECDSA_SHA_256"},
        "responseElements": null, "eventID": format!("e-{id}"), "readOnly": true, "eventType": "AwsApiCall",
        "resources": [{"accountId": "111122223333", "type": "AWS::KMS::Key", "ARN": KEY}],
        "managementEvent": true, "recipientAccountId": "111122223333", "eventCategory": "Management",
    });
    if let Some(error) = error {
        record["errorCode"] = json!(error);
        record["errorMessage"] = json!("no");
    }
    record
}
