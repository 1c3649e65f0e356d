//! What CloudTrail would log of the calls to the KMS for tests, in CloudTrail's form.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{Kms, Logged, Received};

const ACCOUNT: &str = "000000000000";

impl Kms {
    /// Its records so far, in the order of the calls.
    #[must_use]
    pub fn cloudtrail(&self) -> Vec<Value> {
        let keys = self.keys.lock().unwrap();
        // Each key has several names.
        let of_arn = keys.iter().filter(|(name, held)| **name == held.arn);
        let mut calls: Vec<_> = of_arn
            .flat_map(|(arn, held)| held.log.all().into_iter().map(|call| (arn.clone(), call)))
            .collect();
        calls.sort_by_key(|(_, call)| call.at);
        calls.iter().filter_map(|(arn, call)| self.record(arn, call)).collect()
    }

    fn record(&self, arn: &str, call: &Received) -> Option<Value> {
        let Received { operation, user_agents, request_id, at, access_key, logged } = call;
        let error = match logged {
            Logged::Nothing => return None,
            Logged::Done => None,
            Logged::Refused(code) => Some(code),
        };
        let mut record = json!({
            "eventVersion": "1.11",
            "userIdentity": {
                "type": "IAMUser", "arn": format!("arn:aws:iam::{ACCOUNT}:user/{access_key}"),
                "accountId": ACCOUNT, "accessKeyId": access_key, "userName": access_key,
            },
            "eventTime": seconds(*at), "eventSource": "kms.amazonaws.com", "eventName": format!("{operation:?}"),
            "awsRegion": self.region, "sourceIPAddress": "127.0.0.1", "userAgent": user_agents[0],
            "requestParameters": {"keyId": arn}, "responseElements": null, "requestID": request_id,
            "eventID": format!("e-{request_id}"), "readOnly": true, "eventType": "AwsApiCall",
            "resources": [{"accountId": ACCOUNT, "type": "AWS::KMS::Key", "ARN": arn}],
            "managementEvent": true, "recipientAccountId": ACCOUNT, "eventCategory": "Management",
        });
        if let Some(code) = error {
            record["errorCode"] = json!(code);
            record["errorMessage"] = json!("a fault of the test KMS");
        }
        Some(record)
    }
}

/// `2026-11-26T05:15:00Z`.
fn seconds(at: OffsetDateTime) -> String {
    let (date, time) = (at.date(), at.time());
    format!("{date}T{:02}:{:02}:{:02}Z", time.hour(), time.minute(), time.second())
}
