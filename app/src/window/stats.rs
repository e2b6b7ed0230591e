//! What the status bar tells about all reloads of a target. Pure, cached by the caller.

use std::time::SystemTime;

use reload_engine::model::{Change, Outcome, Snapshot};

use crate::window::format;

/// How many reloads the sparkline shows.
const RECENT: usize = 60;

/// One tried reload.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    pub time: SystemTime,
    pub module: String,
    /// `None` where it did not succeed.
    pub total_ms: Option<f64>,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Stats {
    pub reloads: usize,
    pub failed: usize,
    /// Newest last.
    pub recent: Vec<Sample>,
    pub median_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    /// How long the target stood still, in the median.
    pub pause_ms: Option<f64>,
}

impl Stats {
    pub fn new(snapshot: &Snapshot) -> Stats {
        let mut samples = Vec::new();
        let (mut totals, mut pauses) = (Vec::new(), Vec::new());
        let entries = snapshot.modules.iter().flat_map(|module| &module.history);
        for entry in entries.filter(|entry| entry.what == Change::Reload) {
            let receipt = &entry.receipt;
            let succeeded = match receipt.outcome {
                Outcome::Reloaded => true,
                Outcome::Refused | Outcome::Failed => false,
                Outcome::Unchanged | Outcome::Skipped => continue,
            };
            if succeeded {
                totals.push(receipt.timings_ms.total);
                pauses.push(receipt.timings_ms.pause);
            }
            samples.push(Sample {
                time: entry.time,
                module: receipt.name.clone(),
                total_ms: succeeded.then_some(receipt.timings_ms.total),
            });
        }
        samples.sort_by_key(|sample| sample.time);
        totals.sort_by(f64::total_cmp);
        pauses.sort_by(f64::total_cmp);
        let reloads = totals.len();
        let failed = samples.len() - reloads;
        samples.drain(..samples.len().saturating_sub(RECENT));
        Stats {
            reloads,
            failed,
            recent: samples,
            median_ms: format::percentile(&totals, 0.5),
            p95_ms: format::percentile(&totals, 0.95),
            pause_ms: format::percentile(&pauses, 0.5),
        }
    }
}
