//! A bucket of an emulator of S3, by plain requests: what the trail wrote is looked at without the SDK that wrote it.

use std::fs;
use std::path::Path;

use crate::client::{Answer, local};

/// Nobody checks the signature; the account is read from the credential.
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 \
    Credential=test/20260101/eu-test-1/s3/aws4_request, SignedHeaders=host, Signature=00";

/// A bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    address: String,
    /// Its name.
    pub name: String,
}

impl Bucket {
    /// Makes one at an emulator that serves `address`, with Object Lock or without.
    pub async fn make(address: &str, name: &str, is_locked: bool) -> Self {
        let bucket = Self { address: address.to_owned(), name: name.to_owned() };
        let lock = [("x-amz-bucket-object-lock-enabled", "true")];
        let headers = if is_locked { &lock[..] } else { &[] };
        // One emulator wants the region to be said.
        let here = "<CreateBucketConfiguration><LocationConstraint>eu-test-1</LocationConstraint></CreateBucketConfiguration>";
        let answer = bucket.call("PUT", "", headers, here).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        bucket
    }

    /// A request about the bucket, or about what `path` names in it.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let always = [("authorization", AUTHORIZATION), ("host", self.address.as_str())];
        let (path, headers) = (format!("/{}{path}", self.name), [&always, headers].concat());
        local(&self.address, method, &path, &headers, body.to_owned()).await
    }

    /// All keys that are not hidden, sorted.
    pub async fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        let mut after = String::new();
        loop {
            let path = format!("?list-type=2&max-keys=1000&start-after={after}");
            let answer = self.call("GET", &path, &[], "").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let page = elements(&answer.text, "Key");
            let Some(last) = page.last() else { return keys };
            after = last.clone();
            keys.extend(page);
        }
    }

    /// An object.
    pub async fn get(&self, key: &str) -> Answer {
        self.call("GET", &format!("/{key}"), &[("x-amz-checksum-mode", "ENABLED")], "").await
    }

    /// Writes an object over, or a new one.
    pub async fn put(&self, key: &str, body: &str) {
        let answer = self.call("PUT", &format!("/{key}"), &[], body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Deletes an object, which in a bucket with versions hides it.
    pub async fn delete(&self, key: &str) {
        let answer = self.call("DELETE", &format!("/{key}"), &[], "").await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }

    /// How many versions and markers there are of all keys.
    pub async fn versions(&self) -> usize {
        let answer = self.call("GET", "?versions&max-keys=1000", &[], "").await;
        elements(&answer.text, "VersionId").len()
    }

    /// Copies all objects below `directory`, by their keys.
    pub async fn download(&self, directory: &Path) {
        for key in self.keys().await {
            let file = directory.join(&key);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, self.get(&key).await.text).unwrap();
        }
    }
}

/// The texts of all elements of that name.
fn elements(xml: &str, name: &str) -> Vec<String> {
    let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
    let rest = xml.split(&begin).skip(1);
    rest.filter_map(|rest| Some(rest.split_once(&end)?.0.to_owned())).collect()
}
