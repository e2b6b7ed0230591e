//! The Trace tab: what stopped a reload, why, what runs meanwhile, what to do.

use std::path::Path;

use eframe::egui::{Align, Color32, FontId, Label, Layout, RichText, Ui, vec2};
use reload_engine::model::{Class, Failure, Mark, Mode, Module, Outcome, Status};

use crate::{
    steps,
    window::{
        action::Action,
        controls::{self, palette},
        details::{card, changes, heading, nothing, passage, underway},
        format, icons,
        rows::is_rolled_back,
        scene::Scene,
        theme,
    },
};

/// From this width on the reasons stand beside the summary, not below it.
const SIDE_BY_SIDE: f32 = 680.0;

pub fn show(ui: &mut Ui, scene: &Scene<'_>, module: &Module, actions: &mut Vec<Action>) {
    let told = underway::show(ui, scene, module, actions);
    if told && module.status == Status::Reloading {
        return;
    }
    let Some(failure) = module.failure.as_ref().filter(|_| module.status != Status::Reloading) else {
        no_failure(ui, scene, module, actions);
        return;
    };
    let why = causes(failure);
    if ui.available_width() > SIDE_BY_SIDE {
        ui.columns_const(|[left, right]| {
            // Columns would spread the words over the line.
            left.with_layout(Layout::top_down(Align::Min), |ui| {
                summary(ui, module, failure, scene, actions);
                if !why.is_empty() {
                    chain(ui, module, &why, actions);
                }
            });
            right.with_layout(Layout::top_down(Align::Min), |ui| outlook(ui, scene, module, failure, actions));
        });
    } else {
        summary(ui, module, failure, scene, actions);
        outlook(ui, scene, module, failure, actions);
        if !why.is_empty() {
            // A refusal names its reasons, each enough by itself; a failure has one, with what led to it.
            let title = if module.status == Status::Refused { "Further reasons" } else { "Why" };
            heading(ui, title, Some(why.len()));
            chain(ui, module, &why, actions);
        }
    }
}

/// What led to the failure, without what the summary says already.
pub fn causes(failure: &Failure) -> Vec<&str> {
    let body = failure.trace.split_last().map(|(_, body)| body).unwrap_or_default();
    let is_told = |line: &&String| {
        **line == failure.message || line.ends_with("is still running, untouched") || is_put_back(line)
    };
    body.iter().filter(|line| !is_told(line)).map(String::as_str).collect()
}

/// Whether the line tells that the new code ran and was taken back.
fn is_put_back(line: &str) -> bool {
    line.starts_with("the new generation ran for a moment") && line.ends_with("was put back")
}

/// Whether the user may insist: a hook that says no, for one, is not overruled.
pub fn can_be_forced(failure: &Failure) -> bool {
    failure.trace.last().is_some_and(|remedy| remedy.contains("--force"))
}

/// Whether another attempt would end alike, whatever the file becomes.
fn only_a_restart_helps(failure: &Failure) -> bool {
    failure.trace.last().is_some_and(|remedy| remedy.starts_with("restart the target")) && !can_be_forced(failure)
}

/// What to do, in the window's words, and without what happens by itself: that depends on the mode, and is told below.
fn remedy(failure: &Failure) -> Option<String> {
    let remedy = failure.trace.last()?;
    let remedy = remedy.strip_suffix("; it is tried again when it changes").unwrap_or(remedy);
    Some(remedy.replace("override with --force", "choose Reload anyway"))
}

/// What is told, without the module's own name or path in front, nor that of its shadow: it stands above.
pub fn without_module<'a>(text: &'a str, module: &Module) -> &'a str {
    let mut rest = text;
    while let Some((name, after)) = rest.split_once(": ") {
        let named = name == module.name || (name.starts_with('/') && Path::new(name).ends_with(&module.name));
        if !named || after.is_empty() {
            break;
        }
        rest = after;
    }
    rest
}

fn summary(ui: &mut Ui, module: &Module, failure: &Failure, scene: &Scene<'_>, actions: &mut Vec<Action>) {
    let palette = palette(ui);
    let colour = palette.status(module.status);
    card(ui, palette.tinted(colour, palette.canvas), theme::mix(palette.panel, colour, 0.5), |ui| {
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing.x = 7.0;
            let (icon, family) = icons::status(module.status);
            controls::icon(ui, icon, FontId::new(17.0, family), colour);
            ui.label(RichText::new(title(module.status, failure)).font(theme::strong()).color(palette.text));
            if let Some(entry) = module.history.last() {
                let when = scene.age(entry.time);
                let when = RichText::new(when).font(theme::small()).color(palette.text_secondary);
                controls::hint(ui.add(Label::new(when).extend()), scene.exact(entry.time));
            }
        });
        let message = without_module(&failure.message, module);
        passage::show(ui, &format::sentence(message), palette.text, &module.path, actions);
    });
}

/// What still runs, what to do about it, and what happens by itself.
fn outlook(ui: &mut Ui, scene: &Scene<'_>, module: &Module, failure: &Failure, actions: &mut Vec<Action>) {
    let palette = palette(ui);
    card(ui, palette.canvas, palette.line, |ui| {
        let (running, next) = consequence(scene, module, failure);
        let (icon, colour) =
            if scene.has_ended() { (icons::EXITED, palette.text_secondary) } else { (icons::CURRENT, palette.current) };
        point(ui, icon, colour, |ui| {
            ui.label(RichText::new(running).color(palette.text));
        });
        if let Some(remedy) = remedy(failure) {
            point(ui, icons::REMEDY, palette.accent_text, |ui| {
                passage::show(ui, &format::sentence(&remedy), palette.text, &module.path, actions);
            });
        }
        if let Some(next) = next {
            point(ui, icons::RELOADING, palette.text_secondary, |ui| {
                ui.label(RichText::new(next).color(palette.text_secondary));
            });
        }
    });
}

/// A line behind an icon, its further lines below its text.
pub fn point(ui: &mut Ui, icon: char, colour: Color32, content: impl FnOnce(&mut Ui)) {
    ui.with_layout(Layout::left_to_right(Align::Min), |ui| {
        ui.spacing_mut().item_spacing.x = 8.0;
        controls::icon(ui, icon, icons::outline(16.0), colour);
        ui.vertical(content);
    });
}

/// The chain of causes: each line below what it explains, the user's own code bright.
fn chain(ui: &mut Ui, module: &Module, why: &[&str], actions: &mut Vec<Action>) {
    let palette = palette(ui);
    card(ui, palette.canvas, palette.line, |ui| {
        for (number, line) in why.iter().enumerate() {
            ui.with_layout(Layout::left_to_right(Align::Min), |ui| {
                ui.spacing_mut().item_spacing.x = 8.0;
                let digits = RichText::new((number + 1).to_string()).font(theme::code()).color(palette.text_weak);
                ui.allocate_ui_with_layout(vec2(16.0, 16.0), Layout::right_to_left(Align::Min), |ui| ui.label(digits));
                let colour = if passage::is_foreign(line) { palette.text_weak } else { palette.text_secondary };
                let line = without_module(line, module);
                ui.vertical(|ui| passage::show(ui, line, colour, &module.path, actions));
            });
        }
    });
}

fn title(status: Status, failure: &Failure) -> String {
    let verb = if status == Status::Refused { "Refused" } else { "Failed" };
    format!("{verb} while {}", steps::of(failure.stage))
}

/// What still runs, and what happens next.
fn consequence(scene: &Scene<'_>, module: &Module, failure: &Failure) -> (String, Option<&'static str>) {
    if scene.has_ended() {
        return ("The program has ended since.".to_owned(), None);
    }
    let running = if failure.trace.iter().any(|line| is_put_back(line)) {
        format!("Generation {} runs again: the new code had run for a moment.", module.generation)
    } else if module.generation.0 == 0 {
        "The code the program was started with still runs, with its state untouched.".to_owned()
    } else {
        format!("Generation {} still runs, with its state untouched.", module.generation)
    };
    if !scene.is_live() {
        return (running, None);
    }
    let next = if only_a_restart_helps(failure) {
        None
    } else if covers(scene, module) {
        Some("Tried again when the file changes; Try again (R) does so now.")
    } else {
        Some("Auto does not cover this module: change the file and reload, or Try again (R) now.")
    };
    (running, next)
}

/// Whether auto mode reloads the module by itself.
fn covers(scene: &Scene<'_>, module: &Module) -> bool {
    let by_default = matches!(module.class, Class::Executable | Class::Project) && module.mark != Mark::Skip;
    match scene.snapshot().map(|snapshot| snapshot.mode).unwrap_or_default() {
        Mode::Off => false,
        Mode::Marked => module.mark == Mark::Reload,
        Mode::All => module.mark == Mark::Reload || by_default,
    }
}

fn no_failure(ui: &mut Ui, scene: &Scene<'_>, module: &Module, actions: &mut Vec<Action>) {
    let last = module.history.iter().rev().find(|entry| entry.receipt.outcome == Outcome::Reloaded);
    match (module.status, last) {
        (Status::Missing, _) => nothing(
            ui,
            "The file is gone",
            "The program keeps running what it has loaded. Build it again: as soon as the file is back it is looked at anew.",
        ),
        (Status::Changed, _) if is_rolled_back(module) => nothing(
            ui,
            "Rolled back",
            &format!(
                "Generation {} runs again. The file on disk is left alone, also by Reload now, until it changes; \
                 Reload (R) takes it up anyway.",
                module.generation
            ),
        ),
        (Status::Changed, _) => nothing(
            ui,
            "Changed on disk",
            if scene.is_live() {
                "The file differs from what runs. Reload brings it into the program; nothing has been tried yet."
            } else {
                "The file differs from what runs; nothing has been tried yet."
            },
        ),
        (Status::Reloading, _) => nothing(ui, "Reloading", "The new code is being prepared; the old one still runs."),
        (Status::Skipped, _) if module.mark == Mark::Skip => {
            let differs = if module.differs { "The file on disk is not what runs. " } else { "" };
            nothing(
                ui,
                "Skipped",
                &format!(
                    "{differs}Left alone by Auto and by Reload now. Stop skipping it (S), or reload it by itself (R), to \
                     bring it in."
                ),
            );
        }
        (Status::Skipped, _) => nothing(
            ui,
            "Skipped",
            "Left alone by Auto and by Reload now. Mark it, or reload it by itself, to bring it in.",
        ),
        (_, Some(entry)) => {
            let runs = format!(
                "Generation {} {}, reloaded {} in {}.",
                entry.receipt.generation,
                if scene.has_ended() { "ran to the end" } else { "runs" },
                scene.age(entry.time),
                format::milliseconds(entry.receipt.timings_ms.total)
            );
            match failures_before_last(module) {
                0 => nothing(ui, if scene.has_ended() { "Reloaded" } else { "Up to date" }, &runs),
                n => {
                    let tries = format::count(n, "attempt", "attempts");
                    nothing(ui, "Recovered", &format!("{runs} Before that, {tries} did not succeed; see History."));
                }
            }
            if entry.receipt.generation == module.generation {
                // What the sign in the row is about.
                entry.receipt.warnings.iter().for_each(|text| changes::warning(ui, text, module, actions));
            }
        }
        (_, None) if scene.has_ended() => {
            nothing(ui, "Never reloaded", "The program has ended, and ran until then what it was started with.");
        }
        (_, None) => {
            nothing(ui, "Up to date", "The program runs what is on disk; no reload was needed so far.");
            if scene.is_live() && module.class != Class::Protected {
                let covered = covers(scene, module);
                let next = if covered {
                    "Change its source and build it as always: it is reloaded as soon as the file is complete."
                } else {
                    "Change its source and build it as always: it is then listed as Changed and waits for Reload now (F5)."
                };
                point(ui, icons::REMEDY, palette(ui).accent_text, |ui| {
                    ui.label(RichText::new(next).color(palette(ui).text_secondary));
                });
            }
        }
    }
}

/// How many attempts in a row were refused or failed just before the last one, which succeeded.
fn failures_before_last(module: &Module) -> usize {
    let mut latest = module.history.iter().rev();
    if latest.next().is_none_or(|entry| entry.receipt.outcome != Outcome::Reloaded) {
        return 0;
    }
    latest.take_while(|entry| matches!(entry.receipt.outcome, Outcome::Refused | Outcome::Failed)).count()
}

/// The trace as text, for a bug report or a search.
pub fn text(module: &Module) -> String {
    let Some(failure) = &module.failure else {
        return String::new();
    };
    let mut text = format!("{}: {}\n{}\n", module.path.display(), title(module.status, failure), failure.message);
    for (number, line) in failure.trace.iter().enumerate() {
        text.push_str(&format!("{number:>3}  {line}\n"));
    }
    text
}
