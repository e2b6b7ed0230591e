//! The History tab: every reload and rollback, newest first, with how long each stage took.

use eframe::egui::{Align2, Color32, CursorIcon, Rect, RichText, Role, Sense, Stroke, Ui, WidgetInfo, pos2, vec2};
use reload_engine::model::{Change, HistoryEntry, Module, Outcome, Timings};

use crate::{
    steps,
    window::{
        action::Action,
        controls::{self, Button, Tabular, palette},
        details::{
            Tab, card, changes, nothing, pair, passage,
            timeline::{self, dot, stage_colour, stages},
            trace,
        },
        format, icons,
        scene::{Scene, View},
        theme::{self, Palette},
    },
};

pub fn show(ui: &mut Ui, scene: &Scene<'_>, module: &Module, view: &mut View, actions: &mut Vec<Action>) {
    if module.history.is_empty() {
        nothing(ui, "No history yet", "Every reload and rollback of this module will be listed here.");
        return;
    }
    timeline::show(ui, scene, module, &mut view.history_open);
    ui.spacing_mut().item_spacing.y = 0.0;
    for (position, entry) in module.history.iter().enumerate().rev() {
        let is_open = view.history_open == Some(position);
        if line(ui, scene, entry, is_open) {
            view.history_open = (!is_open).then_some(position);
        }
        if is_open {
            ui.add_space(4.0);
            entry_details(ui, scene, module, position, view, actions);
            ui.add_space(6.0);
        }
    }
}

fn outcome(palette: &Palette, entry: &HistoryEntry) -> (char, Color32) {
    match (entry.what, entry.receipt.outcome) {
        (Change::Rollback, Outcome::Reloaded) => (icons::ROLLBACK, palette.changed),
        (_, Outcome::Reloaded) => (icons::CURRENT, palette.current),
        (_, Outcome::Unchanged) => (icons::CHECK, palette.text_secondary),
        (_, Outcome::Refused) => (icons::REFUSED, palette.failed),
        (_, Outcome::Failed) => (icons::FAILED, palette.failed),
        (_, Outcome::Skipped) => (icons::SKIP, palette.text_secondary),
    }
}

fn line(ui: &mut Ui, scene: &Scene<'_>, entry: &HistoryEntry, open: bool) -> bool {
    let palette = palette(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 46.0), Sense::click());
    let (icon, colour) = outcome(palette, entry);
    let word = timeline::word(entry);
    let receipt = &entry.receipt;
    let age = scene.age(entry.time);
    let name = format!("{word}, generation {}, {age}", receipt.generation);
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, &name));
    ui.ctx().accesskit_node_builder(response.id, |node| node.set_expanded(open));
    if ui.is_rect_visible(rect) {
        let painter = ui.painter();
        if response.hovered() {
            painter.rect_filled(rect, theme::RADIUS, palette.raised_hover);
        }
        let upper = rect.top() + 15.0;
        let at = pos2(rect.left() + 4.0, upper);
        painter.text(at, Align2::LEFT_CENTER, icon, icons::filled(16.0), colour);
        let text = format!("{word} · generation {}", receipt.generation);
        let room = rect.width() - 100.0;
        controls::line(
            painter,
            pos2(rect.left() + 26.0, upper),
            Align2::LEFT_CENTER,
            &text,
            theme::medium(),
            palette.text,
            room,
        );
        let total = format::milliseconds(receipt.timings_ms.total);
        let right = pos2(rect.right() - 4.0, upper);
        Tabular::new(painter, theme::body()).paint(painter, right, &total, palette.text_secondary);
        let lower = rect.top() + 34.0;
        painter.text(pos2(rect.left() + 26.0, lower), Align2::LEFT_CENTER, &age, theme::small(), palette.text_weak);
        let bar = Rect::from_min_max(pos2(rect.left() + 130.0, lower - 3.0), pos2(rect.right() - 4.0, lower + 3.0));
        stage_bar(ui, palette, &receipt.timings_ms, bar);
        let painter = ui.painter();
        painter.hline(rect.x_range(), rect.bottom() - 0.5, Stroke::new(1.0, palette.line));
        controls::focus_ring(painter, rect, theme::RADIUS, &response, palette);
    }
    controls::hint(response.on_hover_cursor(CursorIcon::PointingHand), scene.exact(entry.time)).clicked()
}

fn stage_bar(ui: &Ui, palette: &Palette, timings: &Timings, rect: Rect) {
    let stages = stages(timings);
    let sum: f64 = stages.iter().map(|(_, ms)| ms).sum();
    if sum <= 0.0 || rect.width() < 20.0 {
        return;
    }
    let mut left = rect.left();
    for (position, (_, ms)) in stages.iter().enumerate() {
        let width = (ms / sum) as f32 * rect.width();
        let part = Rect::from_min_max(pos2(left, rect.top()), pos2(left + (width - 1.0).max(0.0), rect.bottom()));
        ui.painter().rect_filled(part, 1.0, stage_colour(palette, position));
        left += width;
    }
}

fn entry_details(
    ui: &mut Ui,
    scene: &Scene<'_>,
    module: &Module,
    position: usize,
    view: &mut View,
    actions: &mut Vec<Action>,
) {
    let palette = palette(ui);
    let entry = &module.history[position];
    let receipt = &entry.receipt;
    card(ui, palette.canvas, palette.line, |ui| {
        if let Some(failure) = &receipt.failure {
            ui.label(RichText::new(format!("Stopped while {}", steps::of(failure.stage))).font(theme::medium()));
            let message = trace::without_module(&failure.message, module);
            ui.vertical(|ui| passage::show(ui, message, palette.text_secondary, &module.path, actions));
        }
        for (position, (stage, ms)) in stages(&receipt.timings_ms).into_iter().enumerate() {
            if ms > 0.0 {
                ui.horizontal(|ui| {
                    let (place, _) = ui.allocate_exact_size(vec2(10.0, 16.0), Sense::hover());
                    dot(ui, place, stage_colour(palette, position));
                    ui.label(RichText::new(stage).color(palette.text_secondary));
                    let (rect, cell) = ui.allocate_exact_size(vec2(ui.available_width(), 16.0), Sense::hover());
                    let figure = format!("{ms:.2} ms");
                    cell.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("{stage}: {figure}")));
                    let numbers = Tabular::new(ui.painter(), theme::body());
                    numbers.paint(ui.painter(), rect.right_center(), &figure, palette.text);
                });
            }
        }
        if receipt.timings_ms.total > 0.0 {
            pair(ui, "In all", RichText::new(format!("{:.2} ms", receipt.timings_ms.total)));
        }
        if receipt.timings_ms.pause > 0.0 {
            pair(ui, "Stood still", RichText::new(format!("{:.2} ms", receipt.timings_ms.pause)));
        }
        if !receipt.details.stop.is_empty() {
            pair(ui, "Stopped by", RichText::new(&receipt.details.stop));
        }
        // Why analysing and planning took next to nothing.
        if receipt.details.analysis_shared {
            pair(ui, "Analysis", RichText::new("taken over from another target with this library"));
        }
        if receipt.details.drafted {
            pair(ui, "Plan", RichText::new("made before the reload"));
        }
        if receipt.details.retained_bytes > 0 {
            pair(ui, "Retained", RichText::new(format::size(receipt.details.retained_bytes)));
        }
        pair(ui, "When", RichText::new(scene.exact(entry.time)));
        for warning in &receipt.warnings {
            changes::warning(ui, warning, module, actions);
        }
        ui.horizontal_wrapped(|ui| {
            if changes::has_any(receipt) && Button::new("Show its changes").show(ui).clicked() {
                view.changes_of = Some(position);
                view.tab = Tab::Changes;
            }
            let generation = receipt.generation;
            if scene.is_live() && generation < module.generation && module.generations.contains(&generation) {
                let text = format!("Roll back to generation {generation}");
                if Button::new(&text).with_icon(icons::ROLLBACK).show(ui).clicked() {
                    actions.push(Action::Rollback(module.path.clone(), Some(generation)));
                }
            }
        });
    });
}
