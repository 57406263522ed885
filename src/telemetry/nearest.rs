//! A gauge that may be absent, which the library's own cannot be.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;

/// The nearest expiry of all verified metadata, in seconds since the epoch.
#[derive(Debug)]
pub(super) struct Nearest(AtomicI64);

impl Default for Nearest {
    fn default() -> Self {
        Self(AtomicI64::new(NONE))
    }
}

impl Nearest {
    pub(super) fn set(&self, epoch_seconds: Option<i64>) {
        self.0.store(epoch_seconds.unwrap_or(NONE), Ordering::Relaxed);
    }
}

impl Collector for Nearest {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let at = self.0.load(Ordering::Relaxed);
        if at == NONE {
            return Ok(());
        }
        let gauge = ConstGauge::new(at);
        gauge.encode(encoder.encode_descriptor(
            "metadata_expiry_timestamp_seconds",
            "Nearest expiry of all verified metadata in memory",
            None,
            gauge.metric_type(),
        )?)
    }
}

const NONE: i64 = i64::MIN;
