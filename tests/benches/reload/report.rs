//! Samples become figures, figures a table for people and JSON for programs.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Value, json};

/// The subjects that every run has.
pub const TOOL: &str = "reload-dashboard";
/// The same with a file that it has seen completed, 60 ms before it was put into place: cargo takes its time for that, too.
pub const AHEAD: &str = "the same, foreseen";
pub const FLOOR: &str = "dlclose, dlopen";
/// The floor as a tool beside the program would have it.
pub const WATCHED: &str = "dlclose, dlopen, watched";
/// What stands for the floor where a program is reloaded.
pub const RESTART: &str = "started anew";

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

impl FromIterator<f64> for Samples {
    fn from_iter<T: IntoIterator<Item = f64>>(samples: T) -> Samples {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Samples(sorted)
    }
}

/// A figure that is no time of a reload.
#[derive(Debug)]
struct Figure {
    about: String,
    value: f64,
    unit: &'static str,
    /// What it should not exceed, where anything was promised.
    most: Option<f64>,
}

/// How something grows with something else.
#[derive(Debug)]
pub struct Curve {
    pub name: String,
    /// What the first numbers of the points count.
    pub against: &'static str,
    pub unit: &'static str,
    pub points: Vec<(f64, f64)>,
}

impl Curve {
    /// The exponent with which the last decade grows: 1 is proportional, 0 not at all.
    pub fn exponent(&self) -> f64 {
        let Some((last, at_last)) = self.points.last().copied() else { return f64::NAN };
        let before = self.points.iter().rev().find(|(x, _)| *x * 8.0 <= last).or(self.points.first());
        let Some((first, at_first)) = before.copied() else { return f64::NAN };
        (at_last / at_first).ln() / (last / first).ln()
    }
}

/// By case and by what is compared.
pub type Ratios = BTreeMap<String, BTreeMap<String, f64>>;

/// Figures by what was reloaded and by whom, in the order of the measurement.
#[derive(Debug, Default)]
pub struct Report {
    cases: Vec<(String, Vec<(String, Samples)>)>,
    /// Medians of the tool's own stages, by case.
    stages: BTreeMap<String, Value>,
    figures: Vec<Figure>,
    curves: Vec<Curve>,
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

    pub fn figure(&mut self, about: impl Into<String>, value: f64, unit: &'static str, most: Option<f64>) {
        self.figures.push(Figure { about: about.into(), value, unit, most });
    }

    pub fn curve(&mut self, curve: Curve) {
        self.curves.push(curve);
    }

    /// Per case, the tool's fastest and its median reload as multiples of those of what stands beside it in every run.
    pub fn ratios(&self) -> Ratios {
        let of_case = |(case, subjects): &(String, Vec<(String, Samples)>)| {
            let samples = |wanted| subjects.iter().find(|(name, _)| name == wanted).map(|(_, samples)| samples);
            let tool = samples(TOOL)?;
            let bases = [FLOOR, WATCHED, RESTART].into_iter().filter_map(|base| Some((base, samples(base)?)));
            let ratios = bases.flat_map(|(name, base)| {
                [("fastest", 0.0), ("median", 0.5)].map(|(statistic, part)| {
                    (format!("{name}: {statistic}"), rounded(tool.quantile(part) / base.quantile(part)))
                })
            });
            Some((case.clone(), ratios.collect()))
        };
        self.cases.iter().filter_map(of_case).collect()
    }

    /// Forgets the measurements of a case.
    pub fn forget(&mut self, case: &str) {
        self.cases.retain(|(name, _)| name != case);
    }

    /// The cases that have become slower than recorded by half in each of their ratios, each with a line that says so. A slower
    /// program is in all of them; what else a machine does adds more to several processes than to one, more to the median than
    /// to the fastest or, where it is there from the first to the last reload, the other way round.
    pub fn slower_than(&self, recorded: &Ratios) -> Vec<(String, String)> {
        let judge = |(case, ratios): (String, BTreeMap<String, f64>)| {
            let recorded = recorded.get(&case)?;
            let judged: Vec<_> =
                ratios.iter().filter_map(|(what, now)| Some((what, *now, *recorded.get(what)?))).collect();
            assert!(!judged.is_empty(), "{case}: recorded for other ratios than {ratios:?}; record it anew");
            let is_slower = judged.iter().all(|(_, now, recorded)| *now > recorded * 1.5);
            let figures =
                judged.iter().map(|(what, now, recorded)| format!("{now:.1} ({what}; {recorded:.1} was recorded)"));
            is_slower.then(|| (case.clone(), format!("{case}: {} times", figures.collect::<Vec<_>>().join(", "))))
        };
        self.ratios().into_iter().filter_map(judge).collect()
    }

    pub fn table(&self) -> String {
        let mut text = String::new();
        if !self.cases.is_empty() {
            text += &format!("{:<42} {:<26} {:>9} {:>9} {:>9}\n", "milliseconds", "", "median", "p95", "min");
        }
        for (case, subjects) in &self.cases {
            for (subject, samples) in subjects {
                text += &format!(
                    "{case:<42} {subject:<26} {:>9.2} {:>9.2} {:>9.2}\n",
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
        for Figure { about, value, unit, most } in &self.figures {
            write!(text, "{about:<69} {value:>9.2} {unit}").expect("memory");
            if let Some(most) = most {
                let verdict = if value <= most { "within" } else { "ABOVE" };
                write!(text, " ({verdict} {most})").expect("memory");
            }
            text.push('\n');
        }
        for curve in &self.curves {
            let Curve { name, against, unit, points } = curve;
            let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.0}: {y:.2}")).collect();
            let exponent = curve.exponent();
            text += &format!("{name}, {unit} by {against}: {} (grows with power {exponent:.2})\n", points.join(", "));
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
        let figure = |Figure { about, value, unit, most }: &Figure| json!({ "about": about, "value": value, "unit": unit, "most": most });
        let curve = |curve: &Curve| {
            json!({
                "name": curve.name, "against": curve.against, "unit": curve.unit, "points": curve.points,
                "exponent": curve.exponent(),
            })
        };
        json!({
            "milliseconds": cases, "ratios": self.ratios(), "stages": self.stages,
            "figures": self.figures.iter().map(figure).collect::<Vec<_>>(),
            "curves": self.curves.iter().map(curve).collect::<Vec<_>>(),
        })
    }
}

/// To a hundredth: what is recorded is read by people too.
fn rounded(ratio: f64) -> f64 {
    (ratio * 100.0).round() / 100.0
}

fn entry<'a, T: Default>(list: &'a mut Vec<(String, T)>, name: &str) -> &'a mut T {
    let index = list.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
        list.push((name.to_owned(), T::default()));
        list.len() - 1
    });
    &mut list[index].1
}
