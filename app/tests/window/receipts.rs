//! A receipt keeps nothing to itself: each of its fields is shown in one of the details' tabs.

use std::{collections::BTreeMap, sync::Arc};

use eframe::egui::{Key, Modifiers, Pos2, vec2};
use egui_kittest::kittest::{NodeT, Queryable};
use reload_dashboard::worker::Request;
use reload_engine::model::{
    Change, Details, FunctionCounts, Generation, HistoryEntry, Outcome, PythonChanges, Receipt, StaticCounts, Timings,
};
use serde_json::Value;

use crate::{peer::Window, sample};

fn receipt() -> Receipt {
    let one = |name: &str| vec![name.to_owned()];
    Receipt {
        functions: FunctionCounts { changed: 11, added: 12, removed: 13, unpatchable: 14 },
        statics: StaticCounts { kept: 21, new: 22, reset: 23, merged: 24, removed: 25 },
        timings_ms: Timings {
            read: 1.01,
            parse: 2.02,
            plan: 3.03,
            shadow: 4.04,
            load: 5.05,
            bind: 6.06,
            safe_point: 7.07,
            hooks: 8.08,
            stage: 9.09,
            commit: 10.11,
            adapt: 12.13,
            pause: 0.45,
            total: 77.78,
        },
        warnings: one("layouts unchecked: no type information"),
        details: Details {
            changed: one("changed_function"),
            added: one("added_function"),
            removed: one("removed_function"),
            unpatchable: one("short_function"),
            kept_statics: one("kept_static"),
            new_statics: one("new_static"),
            reset_statics: one("reset_static"),
            merged_statics: one("merged_static"),
            removed_statics: one("removed_static"),
            thread_locals: StaticCounts { kept: 31, new: 32, reset: 33, merged: 34, removed: 35 },
            constructors: one("constructor_run"),
            destructors: one("destructor_kept"),
            unchecked: Some("layouts unchecked: no type information".to_owned()),
            python: PythonChanges {
                modules: one("meter_module"),
                added: one("meter.added"),
                removed: one("meter.removed"),
                updated: one("meter.updated"),
                types: one("meter.Probe"),
            },
            retained_bytes: 96 * 1024,
            analysis_shared: true,
            drafted: true,
            stop: "signal (seccomp)".to_owned(),
        },
        ..Receipt::empty("libecs.so", Outcome::Reloaded, Generation(23))
    }
}

/// The leaves that say something, each as a person would look for it.
fn leaves(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    let key = path.rsplit('.').next().unwrap_or_default();
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                leaves(&format!("{path}.{name}"), value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| leaves(path, item, found)),
        Value::String(text) => {
            found.insert(path.to_owned(), text.clone());
        }
        Value::Number(number) if path.contains("timings_ms") => {
            found.insert(path.to_owned(), format!("{:.2} ms", number.as_f64().unwrap_or_default()));
        }
        Value::Number(number) if key == "generation" => {
            found.insert(path.to_owned(), format!("generation {number}"));
        }
        Value::Number(number) if key == "unpatchable" => {
            found.insert(path.to_owned(), format!("{number} still old for some callers"));
        }
        Value::Number(number) if key == "retained_bytes" => {
            assert_eq!(number.as_u64(), Some(96 * 1024));
            found.insert(path.to_owned(), "96.0 KiB".to_owned());
        }
        Value::Number(number) => {
            found.insert(path.to_owned(), format!("{number} {key}"));
        }
        Value::Bool(true) if key == "analysis_shared" => {
            found.insert(path.to_owned(), "taken over from another target".to_owned());
        }
        Value::Bool(true) if key == "drafted" => {
            found.insert(path.to_owned(), "made before the reload".to_owned());
        }
        Value::Null | Value::Bool(_) => {}
    }
}

#[test]
fn every_field_is_shown() {
    let receipt = receipt();
    let mut wanted = BTreeMap::new();
    leaves("receipt", &serde_json::to_value(&receipt).unwrap(), &mut wanted);
    assert!(wanted.len() > 45, "{wanted:?}");

    let mut window = Window::attached(sample::snapshot());
    window.click("libecs.so, Current");
    window.update(|snapshot| {
        let module = snapshot.modules.iter_mut().find(|module| module.name == "libecs.so").expect("of the sample");
        module.history = vec![HistoryEntry { time: sample::now(), what: Change::Reload, receipt }.into()];
    });
    let mut shown = String::new();
    for tab in [Key::Num2, Key::Num3, Key::Num4] {
        window.keys(Modifiers::COMMAND, tab);
        if tab == Key::Num3 {
            window.click("Reloaded, generation 23, just now");
        }
        for node in window.harness.root().children_recursive() {
            let node = node.accesskit_node();
            for text in [node.label(), node.value(), node.data().description().map(str::to_owned)] {
                shown.push_str(&text.unwrap_or_default().to_lowercase());
                shown.push('\n');
            }
        }
    }
    let missing: Vec<_> = wanted.iter().filter(|(_, text)| !shown.contains(&text.to_lowercase())).collect();
    assert!(missing.is_empty(), "in no tab: {missing:?}");
}

#[test]
fn changes_of_earlier_reloads_are_a_click_away() {
    let mut window = Window::attached(sample::snapshot());
    window.click("libecs.so, Current");
    window.update(|snapshot| {
        let module = snapshot.modules.iter_mut().find(|module| module.name == "libecs.so").expect("of the sample");
        let last = module.history.last_mut().map(Arc::make_mut).expect("of the sample");
        last.receipt.details.added = vec!["only_in_the_last".to_owned()];
    });
    window.keys(Modifiers::COMMAND, Key::Num2);
    window.assert_sees("Changes to generation 23");
    window.assert_sees("only_in_the_last");
    window.click("Changes of the reload before");
    window.assert_sees("Changes to generation 22");
    assert!(!window.sees("only_in_the_last"));
    window.click("Changes of the next reload");
    window.assert_sees("only_in_the_last");
    window.keys(Modifiers::COMMAND, Key::Num3);
    window.click("Reloaded, generation 22, 9 min ago");
    // It may lie below what is in view.
    window.harness.get_by_label("Show its changes").click_accesskit();
    window.run();
    window.assert_sees("Changes to generation 22");
    window.click("libaudio_graph.so, Current");
    window.assert_sees("Changes to generation 9");
}

#[test]
fn a_warning_leads_to_the_source_that_it_names() {
    let mut snapshot = sample::snapshot();
    let ecs = snapshot.modules.iter_mut().find(|module| module.name == "libecs.so").expect("in the sample");
    let warning = "`ecs::step` was inlined at src/world.rs:31".to_owned();
    let last = ecs.history.last_mut().map(Arc::make_mut);
    last.expect("it was reloaded").receipt.warnings.push(warning);
    let mut window = Window::attached(snapshot);
    window.click("libecs.so, Current, 1 warning");
    window.requested();
    window.click("Open src/world.rs:31 in the editor");
    assert!(matches!(&window.requested()[..], [Request::Edit { .. }]));
}

#[test]
fn pictures_of_reloads_tell_their_figures_under_the_pointer() {
    let mut window = Window::attached(sample::snapshot());
    let hover = |window: &mut Window, at: Pos2| {
        window.harness.hover_at(at);
        window.run();
    };
    let bars = window.harness.get_by_label("Times of the last 60 reloads").rect();
    hover(&mut window, bars.left_center() + vec2(1.0, 0.0));
    window.assert_sees(".so: ");
    window.assert_sees(" ms, ");

    window.keys(Modifiers::COMMAND, Key::Num3);
    let bar = |window: &Window, name: &str| window.harness.get_by_label(name).rect().center();
    let done = bar(&window, "Reloaded, generation 41, 57 ms, 10 s ago, in the picture");
    hover(&mut window, done);
    window.assert_sees("the program stood still for 0.57 ms");
    window.assert_sees("plan 18 ms");
    let failed = bar(&window, "Failed, generation 41, 9.0 ms, 10 s ago, in the picture");
    hover(&mut window, failed);
    window.assert_sees("while loading the new code: ");
}
