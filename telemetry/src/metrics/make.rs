//! The recorder of all metrics, and handles on its series.

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder as _, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

use super::names::{AUDIT_BATCH, DESCRIPTIONS, Kind};

/// Seconds: from a refusal on loopback to a stuck upstream.
const BUCKETS: [f64; 15] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0,
];

/// Counts: of a batch.
const SIZES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Makes handles; the recorder keeps one series per name and labels.
pub(super) struct Make<'r>(pub(super) &'r PrometheusRecorder);

impl Make<'_> {
    const METADATA: Metadata<'static> =
        Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

    pub(super) fn counter(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        self.0.register_counter(&key(name, labels), &Self::METADATA)
    }

    pub(super) fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        self.0.register_gauge(&key(name, labels), &Self::METADATA)
    }

    pub(super) fn histogram(
        &self,
        name: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Histogram {
        self.0.register_histogram(&key(name, labels), &Self::METADATA)
    }
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<Label> =
        labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
    Key::from_parts(name, labels)
}

/// With what is said of each metric.
pub(super) fn recorder() -> PrometheusRecorder {
    let recorder = with_buckets();
    for (name, kind, help) in DESCRIPTIONS {
        let (name, help) = ((*name).into(), (*help).into());
        match kind {
            Kind::Counter => recorder.describe_counter(name, None, help),
            Kind::Gauge => recorder.describe_gauge(name, None, help),
            Kind::Histogram => recorder.describe_histogram(name, Some(Unit::Seconds), help),
            Kind::Sizes => recorder.describe_histogram(name, None, help),
        }
    }
    recorder
}

fn with_buckets() -> PrometheusRecorder {
    let builder = PrometheusBuilder::new();
    // Only an empty list of buckets is refused. Without buckets, histograms would
    // be summaries; that costs precision, and nothing else.
    let seconds = Matcher::Prefix(String::new());
    let builder = builder.set_buckets_for_metric(seconds, &BUCKETS).and_then(|builder| {
        builder.set_buckets_for_metric(Matcher::Full(AUDIT_BATCH.to_owned()), &SIZES)
    });
    match builder {
        Ok(builder) => builder.build_recorder(),
        Err(_) => PrometheusBuilder::new().build_recorder(),
    }
}
