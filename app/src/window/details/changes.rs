//! The Changes tab: what the last reload changed, by name, with one search over all of it.

use std::sync::Arc;

use eframe::egui::{
    Align, Align2, Color32, CursorIcon, Id, Label, Layout, RichText, Role, Sense, TextEdit, Ui, WidgetInfo, vec2,
};
use reload_engine::model::{Change, Details, HistoryEntry, Module, Outcome, Receipt, StaticCounts};

use crate::{
    sources::Place,
    window::{
        action::Action,
        controls::{self, Button, palette},
        details::{card, heading, nothing, passage},
        icons,
        scene::{Scene, View},
        theme::{self, CONTROL},
    },
};

const SEARCH: &str = "Search functions and statics";

/// Whether a receipt tells of anything that this tab could list.
pub fn has_any(receipt: &Receipt) -> bool {
    receipt.outcome == Outcome::Reloaded
}

pub fn show(ui: &mut Ui, scene: &Scene<'_>, module: &Module, view: &mut View, actions: &mut Vec<Action>) {
    let lines = module.history.iter().map(Arc::as_ref).enumerate();
    let reloads: Vec<(usize, &HistoryEntry)> = lines.filter(|(_, entry)| has_any(&entry.receipt)).collect();
    let chosen = view.changes_of.and_then(|wanted| reloads.iter().position(|(position, _)| *position == wanted));
    let Some(at) = chosen.or(reloads.len().checked_sub(1)) else {
        nothing(ui, "No changes yet", "After a reload this lists the functions and statics it changed.");
        return;
    };
    let entry = reloads[at].1;
    let receipt = &entry.receipt;
    let palette = palette(ui);
    if let Some(to) = which(ui, scene, entry, at, reloads.len()) {
        view.changes_of = Some(reloads[to].0);
    }
    counts(ui, receipt);
    for text in &receipt.warnings {
        warning(ui, text, module, actions);
    }
    let field = ui.add(
        TextEdit::singleline(&mut view.search)
            .id(Id::unique("search changes"))
            .hint_text(SEARCH)
            .prefix(RichText::new(icons::SEARCH).font(icons::outline(16.0)).color(palette.text_weak))
            .margin(vec2(9.0, 5.0))
            .min_size(vec2(0.0, CONTROL))
            .align(Align2::LEFT_CENTER)
            .desired_width(f32::INFINITY),
    );
    controls::name_field(&field, SEARCH);
    let wanted = view.search.trim().to_lowercase();
    let details = &receipt.details;
    let python = &details.python;
    let groups = [
        ("Functions changed", &details.changed, receipt.functions.changed, palette.text),
        ("Functions added", &details.added, receipt.functions.added, palette.current),
        ("Functions removed", &details.removed, receipt.functions.removed, palette.text_secondary),
        ("Functions still old for some callers", &details.unpatchable, receipt.functions.unpatchable, palette.failed),
        ("Constructors that were run", &details.constructors, details.constructors.len(), palette.current),
        ("Destructors for the program's end", &details.destructors, details.destructors.len(), palette.text),
        ("New statics", &details.new_statics, receipt.statics.new, palette.current),
        ("Statics started anew", &details.reset_statics, receipt.statics.reset, palette.changed),
        ("Statics that took the new value", &details.merged_statics, receipt.statics.merged, palette.text),
        ("Statics removed", &details.removed_statics, receipt.statics.removed, palette.text_secondary),
        ("Statics kept", &details.kept_statics, receipt.statics.kept, palette.text_secondary),
        ("Python modules", &python.modules, python.modules.len(), palette.text),
        ("Python types changed", &python.types, python.types.len(), palette.text),
        ("Added for Python", &python.added, python.added.len(), palette.current),
        ("Removed for Python", &python.removed, python.removed.len(), palette.text_secondary),
        ("Updated for Python", &python.updated, python.updated.len(), palette.text),
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

/// Which reload this is about, and the way to the others. Returns the position of the one to show instead.
fn which(ui: &mut Ui, scene: &Scene<'_>, entry: &HistoryEntry, at: usize, count: usize) -> Option<usize> {
    let palette = palette(ui);
    let mut to = None;
    let size = vec2(ui.available_width(), if count > 1 { CONTROL } else { 20.0 });
    ui.allocate_ui_with_layout(size, Layout::left_to_right(Align::Center), |ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        let verb = if entry.what == Change::Rollback { "back to generation" } else { "to generation" };
        let text = format!("Changes {verb} {}", entry.receipt.generation);
        ui.label(RichText::new(text).font(theme::medium()).color(palette.text));
        let age = scene.age(entry.time);
        let age = ui.label(RichText::new(age).font(theme::small()).color(palette.text_secondary));
        controls::hint(age, scene.exact(entry.time));
        if count > 1 {
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                ui.spacing_mut().item_spacing.x = 0.0;
                let newer = Button::icon(icons::RIGHT, "Changes of the next reload").enabled(at + 1 < count);
                if newer.show(ui).clicked() {
                    to = Some(at + 1);
                }
                let older = Button::icon(icons::LEFT, "Changes of the reload before").enabled(at > 0);
                if older.show(ui).clicked() {
                    to = Some(at - 1);
                }
            });
        }
    });
    to
}

/// Something about a reload that was done and that the user should know.
pub fn warning(ui: &mut Ui, text: &str, module: &Module, actions: &mut Vec<Action>) {
    let palette = palette(ui);
    let fill = palette.tinted(palette.changed, palette.canvas);
    card(ui, fill, theme::mix(palette.panel, palette.changed, 0.5), |ui| {
        ui.with_layout(Layout::left_to_right(Align::Min), |ui| {
            ui.spacing_mut().item_spacing.x = 8.0;
            controls::icon(ui, icons::WARNING, icons::outline(16.0), palette.changed);
            ui.vertical(|ui| passage::show(ui, text, palette.text, &module.path, actions));
        });
    });
}

/// The numbers of a receipt in one line each.
fn counts(ui: &mut Ui, receipt: &Receipt) {
    let palette = palette(ui);
    let functions = receipt.functions;
    card(ui, palette.canvas, palette.line, |ui| {
        let mut line = |title: &str, parts: &[(usize, &str)]| {
            ui.horizontal_wrapped(|ui| {
                ui.spacing_mut().item_spacing.x = 10.0;
                ui.label(RichText::new(title).font(theme::medium()).color(palette.text));
                for (count, word) in parts {
                    let colour = if *count > 0 { palette.text } else { palette.text_weak };
                    // A number stays on the line of its word.
                    let text = RichText::new(format!("{count} {word}")).color(colour);
                    ui.add(Label::new(text).extend());
                }
            });
        };
        let mut parts =
            vec![(functions.changed, "changed"), (functions.added, "added"), (functions.removed, "removed")];
        if functions.unpatchable > 0 {
            parts.push((functions.unpatchable, "still old for some callers"));
        }
        line("Functions", &parts);
        let statics = |counts: StaticCounts| {
            let mut parts =
                vec![(counts.kept, "kept"), (counts.new, "new"), (counts.reset, "reset"), (counts.merged, "merged")];
            if counts.removed > 0 {
                parts.push((counts.removed, "removed"));
            }
            parts
        };
        line("Statics", &statics(receipt.statics));
        let local = receipt.details.thread_locals;
        if local != StaticCounts::default() {
            line("of which thread-local", &statics(local));
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
                if controls::hint(response, "Open it in the editor").clicked() {
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
