//! The Trace tab: what stopped a reload, what runs meanwhile, what happens next.

use eframe::egui::{Align, FontId, Layout, RichText, Ui, vec2};
use reload_engine::model::{Connection, Failure, Mark, Mode, Module, Outcome, Status};

use crate::window::{
    controls::palette,
    dashboard::Scene,
    details::{card, heading, nothing},
    format, icons,
    rows::is_rolled_back,
    theme,
};

pub fn show(ui: &mut Ui, scene: &Scene<'_>, module: &Module) {
    let Some(failure) = &module.failure else {
        no_failure(ui, scene, module);
        return;
    };
    if ui.available_width() > 560.0 && !failure.trace.is_empty() {
        ui.columns_const(|[left, right]| {
            // Columns would spread the words over the line.
            left.with_layout(Layout::top_down(Align::Min), |ui| summary(ui, scene, module, failure));
            right.with_layout(Layout::top_down(Align::Min), |ui| causes(ui, failure));
        });
    } else {
        summary(ui, scene, module, failure);
        if !failure.trace.is_empty() {
            heading(ui, "What led to it", Some(failure.trace.len()));
            causes(ui, failure);
        }
    }
}

fn summary(ui: &mut Ui, scene: &Scene<'_>, module: &Module, failure: &Failure) {
    let palette = palette(ui);
    let colour = palette.status(module.status);
    card(ui, palette.tinted(colour, palette.canvas), theme::mix(palette.panel, colour, 0.5), |ui| {
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing.x = 7.0;
            let (icon, family) = icons::status(module.status);
            ui.label(RichText::new(icon).font(FontId::new(17.0, family)).color(colour));
            ui.label(RichText::new(title(module.status, failure)).font(theme::strong()).color(palette.text));
            if let Some(entry) = module.history.last() {
                let when = format::age(entry.time, scene.now);
                ui.label(RichText::new(when).font(theme::small()).color(palette.text_secondary))
                    .on_hover_text(format::exact(entry.time));
            }
        });
        ui.label(RichText::new(&failure.message).color(palette.text));
        ui.label(RichText::new(consequence(scene, module)).font(theme::small()).color(palette.text_secondary));
    });
}

fn causes(ui: &mut Ui, failure: &Failure) {
    let palette = palette(ui);
    card(ui, palette.canvas, palette.line, |ui| {
        for (number, line) in failure.trace.iter().enumerate() {
            let last = number + 1 == failure.trace.len();
            ui.with_layout(Layout::left_to_right(Align::Min), |ui| {
                ui.spacing_mut().item_spacing.x = 8.0;
                let digits = RichText::new(number.to_string()).font(theme::code()).color(palette.text_weak);
                ui.allocate_ui_with_layout(vec2(16.0, 16.0), Layout::right_to_left(Align::Min), |ui| ui.label(digits));
                // The last line says what to do: it is for reading, the others for finding out.
                let text = if last {
                    RichText::new(line).color(palette.text)
                } else {
                    RichText::new(line).font(theme::code()).color(palette.text_secondary)
                };
                ui.vertical(|ui| ui.label(text));
            });
        }
    });
}

fn title(status: Status, failure: &Failure) -> String {
    let verb = if status == Status::Refused { "Refused" } else { "Failed" };
    format!("{verb} at stage {}", failure.stage)
}

/// What still runs, and what happens next.
fn consequence(scene: &Scene<'_>, module: &Module) -> String {
    if let Some(Connection::Exited(_)) = scene.snapshot().map(|snapshot| &snapshot.connection) {
        return "The program has ended since.".to_owned();
    }
    let running = if module.generation.0 == 0 {
        "The code the program was started with still runs, with its state untouched.".to_owned()
    } else {
        format!("Generation {} still runs, with its state untouched.", module.generation)
    };
    if !scene.is_live() {
        return running;
    }
    let mode = scene.snapshot().map(|snapshot| snapshot.mode).unwrap_or_default();
    let by_itself = match mode {
        Mode::Off => false,
        Mode::Marked => module.mark == Mark::Reload,
        Mode::All => module.mark != Mark::Skip,
    };
    let next = if by_itself {
        "It is tried again when the file changes; Try again does so now."
    } else {
        "Auto does not cover this module: change the file and reload, or Try again now."
    };
    format!("{running} {next}")
}

fn no_failure(ui: &mut Ui, scene: &Scene<'_>, module: &Module) {
    let last = module.history.iter().rev().find(|entry| entry.receipt.outcome == Outcome::Reloaded);
    match (module.status, last) {
        (Status::Missing, _) => nothing(
            ui,
            "The file is gone",
            "The program keeps running what it has loaded. When the file appears again it is looked at anew.",
        ),
        (Status::Changed, _) if is_rolled_back(module) => nothing(
            ui,
            "Rolled back",
            &format!(
                "Generation {} runs again. The file on disk is left alone until it changes; Reload takes it up anyway.",
                module.generation
            ),
        ),
        (Status::Changed, _) => nothing(
            ui,
            "Changed on disk",
            "The file differs from what runs. Reload brings it into the program; nothing has been tried yet.",
        ),
        (Status::Reloading, _) => nothing(ui, "Reloading", "The new code is being prepared; the old one still runs."),
        (Status::Skipped, _) => nothing(
            ui,
            "Skipped",
            "Left alone by Auto and by Reload now. Mark it, or reload it by itself, to bring it in.",
        ),
        (_, Some(entry)) => nothing(
            ui,
            "Nothing went wrong",
            &format!(
                "Generation {} runs since {}, reloaded in {}.",
                entry.receipt.generation,
                format::age(entry.time, scene.now),
                format::milliseconds(entry.receipt.timings_ms.total)
            ),
        ),
        (_, None) => {
            nothing(ui, "Nothing went wrong", "The program runs what is on disk; no reload was needed so far.")
        }
    }
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
