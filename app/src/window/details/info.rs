//! The Info tab: what this module is, where it lies, what it has taken.

use eframe::egui::{Align, Layout, RichText, Ui, vec2};
use reload_engine::{
    ledger::ModuleLedger,
    model::{Class, Mark, Module},
};

use crate::window::{
    action::Action,
    controls::{Button, palette},
    details::{card, heading, pair},
    format, icons,
    scene::Scene,
    theme,
};

pub fn show(ui: &mut Ui, scene: &Scene<'_>, module: &Module, actions: &mut Vec<Action>) {
    let palette = palette(ui);
    let code = |text: String| RichText::new(text).font(theme::code()).color(palette.text);
    let plain = |text: String| RichText::new(text).color(palette.text);
    card(ui, palette.canvas, palette.line, |ui| {
        pair(ui, "Path", code(module.path.display().to_string()));
        if let Some(soname) = &module.soname {
            pair(ui, "Soname", code(soname.clone()));
        }
        pair(ui, "Class", plain(class(module.class).to_owned()));
        pair(ui, "Mark", plain(mark(module.mark).to_owned()));
        let modified = module.mtime.map_or_else(
            || "the file is gone".to_owned(),
            |time| format!("{} ({})", scene.exact(time), scene.age(time)),
        );
        pair(ui, "Modified", plain(modified));
        if let Some(size) = module.size {
            pair(ui, "Size", plain(format!("{} ({size} bytes)", format::size(size))));
        }
        pair(ui, "Generation", plain(module.generation.to_string()));
        pair(ui, "Load bias", code(format!("{:#x}", module.bias.0)));
        if let Some(shield) = &module.shield {
            let text = format!(
                "{} lie in a private copy, so that the file may be overwritten; it took {}, and the program stood still {}",
                format::size(shield.bytes),
                format::milliseconds(shield.ms),
                format::milliseconds(shield.pause_ms)
            );
            pair(ui, "Shield", plain(text));
        } else if module.class == Class::Project {
            pair(ui, "Shield", plain("none: overwriting the file in place would end the program".to_owned()));
        }
        let retained: u64 = module.history.iter().map(|entry| entry.receipt.details.retained_bytes).sum();
        if retained > 0 {
            // Of very many reloads only the last ones are known by their receipts.
            let least = if module.history.len() < ModuleLedger::HISTORY { "" } else { "at least " };
            pair(ui, "Retained", plain(format!("{least}{} until the program ends", format::size(retained))));
        }
        let stop = module.history.iter().rev().map(|entry| &entry.receipt.details.stop).find(|stop| !stop.is_empty());
        if let Some(stop) = stop {
            pair(ui, "Stopped by", plain(stop.clone()));
        }
    });
    if module.generations.len() > 1 {
        heading(ui, "Generations", Some(module.generations.len()));
        card(ui, palette.canvas, palette.line, |ui| {
            let row = Layout::left_to_right(Align::Center);
            for generation in module.generations.iter().rev() {
                ui.allocate_ui_with_layout(vec2(ui.available_width(), theme::CONTROL), row, |ui| {
                    let active = *generation == module.generation;
                    let what = match (generation.0, active) {
                        (_, true) => format!("Generation {generation}, running"),
                        (0, false) => "Generation 0, as loaded".to_owned(),
                        (_, false) => format!("Generation {generation}"),
                    };
                    ui.label(RichText::new(what).color(palette.text));
                    if *generation < module.generation {
                        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                            let name = format!("Roll back to generation {generation}");
                            let button = Button::new("Roll back").named(&name).with_icon(icons::ROLLBACK);
                            if button.enabled(scene.is_live()).show(ui).clicked() {
                                actions.push(Action::Rollback(module.path.clone(), Some(*generation)));
                            }
                        });
                    }
                });
            }
        });
    }
}

fn class(class: Class) -> &'static str {
    match class {
        Class::Executable => "executable: the program itself",
        Class::Project => "project",
        Class::System => "system: left alone unless marked",
        Class::Protected => "protected: can never be reloaded",
    }
}

fn mark(mark: Mark) -> &'static str {
    match mark {
        Mark::Reload => "marked for reload",
        Mark::Skip => "skipped",
        Mark::None => "none",
    }
}
