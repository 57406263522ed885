//! The customary `process_*` metrics, read from `/proc` when asked for. Elsewhere than on Linux they are absent.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Reads this process.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge =
            |name, help, value: Option<f64>| write(&mut encoder, name, help, value.map(ConstGauge::new));
        gauge(
            "process_resident_memory_bytes",
            "Resident memory",
            resident_bytes(),
        )?;
        gauge("process_open_fds", "Open file descriptors", open_fds())?;
        gauge("process_max_fds", "Limit of open file descriptors", max_fds())?;
        gauge(
            "process_start_time_seconds",
            "Start of the process since the epoch",
            start_time(),
        )?;
        write(
            &mut encoder,
            "process_cpu_seconds",
            "Time spent computing, in user and system mode",
            cpu_seconds().map(ConstCounter::new),
        )
    }
}

fn write(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: Option<impl EncodeMetric>,
) -> Result<(), fmt::Error> {
    match metric {
        Some(metric) => metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?),
        None => Ok(()),
    }
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    Some(number_after(&status, "VmRSS:")? * 1024.0)
}

fn open_fds() -> Option<f64> {
    let open = u32::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?;
    // The folder itself was open while it was read.
    Some(f64::from(open.saturating_sub(1)))
}

fn max_fds() -> Option<f64> {
    number_after(&fs::read_to_string("/proc/self/limits").ok()?, "Max open files")
}

fn start_time() -> Option<f64> {
    let booted = number_after(&fs::read_to_string("/proc/stat").ok()?, "btime")?;
    Some(booted + own_stat(START_TIME)? / TICKS_PER_SECOND)
}

fn cpu_seconds() -> Option<f64> {
    Some((own_stat(USER_TIME)? + own_stat(SYSTEM_TIME)?) / TICKS_PER_SECOND)
}

/// Field `number` of `/proc/self/stat`, counted from one as proc(5) does. The second is the program's name in
/// parentheses and may hold anything, so fields are counted after the last closing one.
fn own_stat(number: usize) -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields
        .split_whitespace()
        .nth(number.checked_sub(3)?)?
        .parse()
        .ok()
}

fn number_after(text: &str, label: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    rest.split_whitespace().next()?.parse().ok()
}

const USER_TIME: usize = 14;
const SYSTEM_TIME: usize = 15;
const START_TIME: usize = 22;
/// `USER_HZ`, which Linux fixes at 100 for user space on all architectures we build for.
const TICKS_PER_SECOND: f64 = 100.0;
