//! Samples become figures, figures a table for people and JSON for programs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The subjects that every run has.
pub const TOOL: &str = "reload-dashboard";
pub const FLOOR: &str = "dlclose, dlopen";

/// Measurements of one thing.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn add(&mut self, sample: f64) {
        let place = self.0.partition_point(|known| *known < sample);
        self.0.insert(place, sample);
    }

    /// The sample below which `part` of all lie, 0 to 1.
    pub fn quantile(&self, part: f64) -> f64 {
        let last = self.0.len().saturating_sub(1) as f64;
        self.0.get((last * part).round() as usize).copied().unwrap_or(f64::NAN)
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub fn json(&self) -> Value {
        json!({
            "samples": self.0.len(), "min": self.quantile(0.0), "median": self.median(), "p95": self.quantile(0.95),
            "p99": self.quantile(0.99), "max": self.quantile(1.0),
        })
    }
}

/// Figures by what was reloaded and by whom, in the order of the measurement.
#[derive(Debug, Default)]
pub struct Report {
    cases: Vec<(String, Vec<(String, Samples)>)>,
    /// Medians of the tool's own stages, by case.
    stages: BTreeMap<String, Value>,
}

impl Report {
    pub fn add(&mut self, case: &str, subject: &str, sample: f64) {
        let subjects = entry(&mut self.cases, case);
        entry(subjects, subject).add(sample);
    }

    pub fn add_receipts(&mut self, case: &str, receipts: &[Value]) {
        let mut stages: BTreeMap<&str, Samples> = BTreeMap::new();
        for receipt in receipts {
            for (stage, time) in receipt["timings"].as_object().into_iter().flatten() {
                stages.entry(stage).or_default().add(time.as_f64().unwrap_or(f64::NAN));
            }
        }
        let medians = stages.iter().map(|(stage, samples)| ((*stage).to_owned(), json!(samples.median()))).collect();
        self.stages.insert(case.to_owned(), Value::Object(medians));
    }

    /// Per case, the tool's median as a multiple of the floor's.
    pub fn ratios(&self) -> BTreeMap<String, f64> {
        let ratio = |(case, subjects): &(String, Vec<(String, Samples)>)| {
            let median = |wanted: &str| Some(subjects.iter().find(|(name, _)| name == wanted)?.1.median());
            Some((case.clone(), median(TOOL)? / median(FLOOR)?))
        };
        self.cases.iter().filter_map(ratio).collect()
    }

    /// What has become slower than recorded by half, one line each.
    pub fn slower_than(&self, recorded: &BTreeMap<String, f64>) -> Vec<String> {
        let ratios = self.ratios();
        let judged = ratios.iter().filter_map(|(case, ratio)| Some((case, ratio, recorded.get(case)?)));
        judged
            .filter(|(_, ratio, recorded)| **ratio > **recorded * 1.5)
            .map(|(case, ratio, recorded)| {
                format!("{case}: {ratio:.1} times what dlclose and dlopen take, {recorded:.1} was recorded")
            })
            .collect()
    }

    pub fn table(&self) -> String {
        let mut text = format!("{:<34} {:<26} {:>9} {:>9} {:>9}\n", "milliseconds", "", "median", "p95", "min");
        for (case, subjects) in &self.cases {
            for (subject, samples) in subjects {
                text += &format!(
                    "{case:<34} {subject:<26} {:>9.2} {:>9.2} {:>9.2}\n",
                    samples.median(),
                    samples.quantile(0.95),
                    samples.quantile(0.0)
                );
            }
        }
        for (case, stages) in &self.stages {
            let stages: Vec<String> = stages
                .as_object()
                .into_iter()
                .flatten()
                .map(|(stage, time)| format!("{stage} {:.2}", time.as_f64().unwrap_or(f64::NAN)))
                .collect();
            text += &format!("stages of {case}: {}\n", stages.join(", "));
        }
        text
    }

    pub fn json(&self) -> Value {
        let cases: serde_json::Map<String, Value> = self
            .cases
            .iter()
            .map(|(case, subjects)| {
                let subjects = subjects.iter().map(|(subject, samples)| (subject.clone(), samples.json()));
                (case.clone(), Value::Object(subjects.collect()))
            })
            .collect();
        json!({ "milliseconds": cases, "ratios": self.ratios(), "stages": self.stages })
    }
}

fn entry<'a, T: Default>(list: &'a mut Vec<(String, T)>, name: &str) -> &'a mut T {
    let index = list.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
        list.push((name.to_owned(), T::default()));
        list.len() - 1
    });
    &mut list[index].1
}
