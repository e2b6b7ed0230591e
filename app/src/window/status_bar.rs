//! The status bar: what is watched, how many reloads there were, and how long they took.

use eframe::egui::{Align, Color32, Layout, Pos2, Rect, RichText, Role, Sense, Stroke, Ui, WidgetInfo, pos2, vec2};
use reload_engine::model::Connection;

use crate::{
    steps,
    window::{
        action::Action,
        controls::{self, Button, palette},
        dialogs::Dialog,
        format, icons,
        scene::Scene,
        stats::Stats,
        theme,
    },
};

pub fn show(ui: &mut Ui, scene: &Scene<'_>, actions: &mut Vec<Action>) {
    let palette = palette(ui);
    let text = |text: String| RichText::new(text).font(theme::small()).color(palette.text_secondary);
    let width = ui.available_width();
    ui.horizontal_centered(|ui| {
        ui.spacing_mut().item_spacing.x = 14.0;
        ui.spacing_mut().interact_size.y = 20.0;
        let watching = match (scene.tab(), scene.snapshot()) {
            (Some(tab), Some(snapshot)) if tab.is_live() => {
                format!("Watching {}", format::count(snapshot.watched_directories, "directory", "directories"))
            }
            (_, Some(snapshot)) if snapshot.connection == Connection::Detached => "Detached, not watching".to_owned(),
            _ => "Not watching".to_owned(),
        };
        let tab = scene.tab().filter(|_| scene.snapshot().is_some());
        let work = tab.and_then(|tab| tab.long_work(scene.now));
        // What is going on comes before everything else.
        if work.is_none() || width >= 800.0 {
            ui.horizontal(|ui| {
                ui.spacing_mut().item_spacing.x = 6.0;
                controls::icon(ui, icons::WATCH, icons::outline(15.0), palette.text_secondary);
                ui.label(text(watching));
            });
        }
        let Some(tab) = tab else {
            return;
        };
        if let Some((doing, age)) = work {
            let what = if doing.ahead { "Analysing" } else { "Reloading" };
            let module = format::elide_middle(&doing.module, if width < 800.0 { 20 } else { 40 });
            ui.label(text(format!("{what} {module} · {} · {}", steps::of(doing.stage), format::seconds(age))));
            let cancel = Button::new("Cancel").named("Cancel the reload").enabled(doing.can_be_cancelled());
            if !doing.ahead && cancel.height(22.0).show(ui).clicked() {
                actions.push(Action::Cancel);
            }
        }
        let stats = tab.stats();
        let mut totals = format::count(stats.reloads, "reload", "reloads");
        if stats.failed > 0 {
            totals = format!("{totals} · {} failed", stats.failed);
        }
        if work.is_none() || has_room(ui, &totals) {
            ui.label(text(totals));
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let help = Button::icon(icons::HELP, "Keyboard shortcuts").hint("Keyboard shortcuts (?)");
            if help.show(ui).clicked() {
                actions.push(Action::Dialog(Dialog::Help));
            }
            let (Some(median), Some(p95)) = (stats.median_ms, stats.p95_ms) else {
                return;
            };
            let mut times = format!("median {} · p95 {}", format::milliseconds(median), format::milliseconds(p95));
            if width > 760.0
                && let Some(pause) = stats.pause_ms
            {
                times = format!("{times} · pause {}", format::milliseconds(pause));
            }
            if !has_room(ui, &times) {
                return;
            }
            let meaning = "How long a reload took from noticing the change to running the new code, and in the median \
                           how long the program stood still";
            controls::hint(ui.label(text(times)), meaning);
            if width > 640.0 && ui.available_width() > spark_width(stats) {
                sparkline(ui, stats, scene);
            }
            if width > 900.0 && has_room(ui, "Reload time") {
                ui.label(text("Reload time".to_owned()));
            }
        });
    });
}

/// Whether a text still fits on the bar, and the button at its end, too.
fn has_room(ui: &Ui, text: &str) -> bool {
    let width = controls::layout(ui.painter(), text, theme::small()).size().x;
    ui.available_width() >= width + 60.0
}

fn spark_width(stats: &Stats) -> f32 {
    (stats.recent.len() as f32 * bar_width(stats.recent.len())).max(40.0)
}

/// A bar and its gap; wider while there are few.
fn bar_width(bars: usize) -> f32 {
    (120.0 / bars.max(1) as f32).clamp(2.5, 6.0)
}

fn sparkline(ui: &mut Ui, stats: &Stats, scene: &Scene<'_>) {
    let palette = palette(ui);
    let bar_width = bar_width(stats.recent.len());
    let (rect, response) = ui.allocate_exact_size(vec2(spark_width(stats), 18.0), Sense::hover());
    let name = format!("Times of the last {}", format::count(stats.recent.len(), "reload", "reloads"));
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &name));
    let most = stats.recent.iter().filter_map(|sample| sample.total_ms).fold(1.0_f64, f64::max);
    let painter = ui.painter();
    painter.hline(rect.x_range(), rect.bottom() - 0.5, Stroke::new(1.0, palette.line_strong));
    for (position, sample) in stats.recent.iter().enumerate() {
        let left = rect.left() + position as f32 * bar_width;
        match sample.total_ms {
            Some(ms) => {
                let height = ((ms / most) as f32 * rect.height()).max(2.0);
                let bar =
                    Rect::from_min_max(pos2(left, rect.bottom() - height), pos2(left + bar_width - 1.0, rect.bottom()));
                painter.rect_filled(bar, 0.0, palette.reloading);
            }
            None => cross(ui, pos2(left + bar_width / 2.0, rect.center().y), palette.failed),
        }
    }
    let pointed = response.hover_pos().map(|at| ((at.x - rect.left()) / bar_width) as usize);
    if let Some(sample) = pointed.and_then(|position| stats.recent.get(position)) {
        let result = sample.total_ms.map_or_else(|| "failed".to_owned(), format::milliseconds);
        controls::hint(response, format!("{}: {result}, {}", sample.module, scene.age(sample.time)));
    }
}

fn cross(ui: &Ui, at: Pos2, colour: Color32) {
    let arm = 3.0;
    let stroke = Stroke::new(1.5, colour);
    ui.painter().line_segment([at + vec2(-arm, -arm), at + vec2(arm, arm)], stroke);
    ui.painter().line_segment([at + vec2(-arm, arm), at + vec2(arm, -arm)], stroke);
}
