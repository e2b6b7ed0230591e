//! The Changes tab: what the last reload changed, by name, with one search over all of it.

use eframe::egui::{Align2, Color32, CursorIcon, Id, Label, RichText, Role, Sense, TextEdit, Ui, WidgetInfo, vec2};
use reload_engine::model::{Details, Module, Outcome, Receipt, StaticCounts};

use crate::{
    sources::Place,
    window::{
        action::Action,
        controls::{self, palette},
        details::{card, heading, nothing},
        icons,
        theme::{self, CONTROL},
    },
};

pub fn show(ui: &mut Ui, module: &Module, search: &mut String, actions: &mut Vec<Action>) {
    let Some(entry) = module.history.iter().rev().find(|entry| entry.receipt.outcome == Outcome::Reloaded) else {
        nothing(ui, "No changes yet", "After a reload this lists the functions and statics it changed.");
        return;
    };
    let receipt = &entry.receipt;
    let palette = palette(ui);
    counts(ui, receipt);
    for warning in &receipt.warnings {
        card(ui, palette.tinted(palette.changed, palette.panel), palette.line, |ui| {
            ui.label(RichText::new(warning).color(palette.text));
        });
    }
    ui.add(
        TextEdit::singleline(search)
            .id(Id::unique("search changes"))
            .hint_text("Search functions and statics")
            .prefix(RichText::new(icons::SEARCH).font(icons::outline(16.0)).color(palette.text_weak))
            .margin(vec2(9.0, 5.0))
            .min_size(vec2(0.0, CONTROL))
            .align(Align2::LEFT_CENTER)
            .desired_width(f32::INFINITY),
    );
    let wanted = search.trim().to_lowercase();
    let details = &receipt.details;
    let groups = [
        ("Functions changed", &details.changed, receipt.functions.changed, palette.text),
        ("Functions added", &details.added, receipt.functions.added, palette.current),
        ("Functions removed", &details.removed, receipt.functions.removed, palette.text_secondary),
        (
            "Functions that callers of the old code do not reach",
            &details.unpatchable,
            receipt.functions.unpatchable,
            palette.failed,
        ),
        ("Constructors that were run", &details.constructors, details.constructors.len(), palette.current),
        ("Destructors for the program's end", &details.destructors, details.destructors.len(), palette.text),
        ("New statics", &details.new_statics, receipt.statics.new, palette.current),
        ("Statics started anew", &details.reset_statics, receipt.statics.reset, palette.changed),
        ("Statics that took the new value", &details.merged_statics, receipt.statics.merged, palette.text),
        ("Statics kept", &details.kept_statics, receipt.statics.kept, palette.text_secondary),
        ("Added for Python", &details.python.added, details.python.added.len(), palette.current),
        ("Removed for Python", &details.python.removed, details.python.removed.len(), palette.text_secondary),
        ("Updated for Python", &details.python.updated, details.python.updated.len(), palette.text),
    ];
    let mut found = false;
    for (position, (title, names, count, colour)) in groups.into_iter().enumerate() {
        let group = Group { title, names, count, colour, in_file: IN_FILE.contains(&position) };
        found |= group.show(ui, &wanted, module, actions);
    }
    if !found {
        let text = if wanted.is_empty() { "No names were recorded." } else { "Nothing of that name." };
        ui.label(RichText::new(text).color(palette.text_secondary));
    }
}

/// The numbers of a receipt in one line each.
fn counts(ui: &mut Ui, receipt: &Receipt) {
    let palette = palette(ui);
    let functions = receipt.functions;
    let statics = receipt.statics;
    card(ui, palette.canvas, palette.line, |ui| {
        let mut line = |title: &str, parts: &[(usize, &str)]| {
            ui.horizontal_wrapped(|ui| {
                ui.spacing_mut().item_spacing.x = 6.0;
                ui.label(RichText::new(title).font(theme::medium()).color(palette.text));
                for (count, word) in parts {
                    let colour = if *count > 0 { palette.text } else { palette.text_weak };
                    // A number stays on the line of its word.
                    let text = RichText::new(format!("{count} {word}")).color(colour);
                    ui.add(Label::new(text).extend());
                }
            });
        };
        let parts = [
            (functions.changed, "changed"),
            (functions.added, "added"),
            (functions.removed, "removed"),
            (functions.unpatchable, "unpatchable"),
        ];
        line("Functions", &parts);
        line(
            "Statics",
            &[(statics.kept, "kept"), (statics.new, "new"), (statics.reset, "reset"), (statics.merged, "merged")],
        );
        let local = receipt.details.thread_locals;
        if local != StaticCounts::default() {
            line("of which thread-local", &[(local.kept, "kept"), (local.new, "new"), (local.reset, "reset")]);
        }
    });
}

/// The groups of functions that the file on disk has: these can be opened.
const IN_FILE: [usize; 3] = [0, 1, 3];

/// One list of names.
struct Group<'a> {
    title: &'a str,
    names: &'a [String],
    count: usize,
    colour: Color32,
    in_file: bool,
}

impl Group<'_> {
    /// Shows what of it has the wanted text in its name. False where nothing does.
    fn show(&self, ui: &mut Ui, wanted: &str, module: &Module, actions: &mut Vec<Action>) -> bool {
        let palette = palette(ui);
        let shown: Vec<&String> = self.names.iter().filter(|name| name.to_lowercase().contains(wanted)).collect();
        if shown.is_empty() {
            return false;
        }
        heading(ui, self.title, Some(if wanted.is_empty() { self.count } else { shown.len() }));
        card(ui, palette.canvas, palette.line, |ui| {
            for name in shown {
                let text = RichText::new(name).font(theme::code()).color(self.colour);
                if !self.in_file {
                    ui.label(text);
                    continue;
                }
                let response = ui.add(Label::new(text).sense(Sense::click()));
                response.widget_info(|| WidgetInfo::labeled(Role::Link, true, name));
                if response.has_focus() {
                    controls::focus_ring(ui.painter(), response.rect.expand(2.0), theme::RADIUS, &response, palette);
                }
                let response = response.on_hover_cursor(CursorIcon::PointingHand);
                if response.on_hover_text("Open it in the editor").clicked() {
                    actions.push(Action::Edit(Place::Function(name.clone()), module.path.clone()));
                }
            }
            if wanted.is_empty() && self.count > self.names.len() {
                let rest = format!("and {} more; the list ends at {}", self.count - self.names.len(), Details::LIMIT);
                ui.label(RichText::new(rest).font(theme::small()).color(palette.text_weak));
            }
        });
        true
    }
}
