//! A picture of a module's reloads, oldest at the left: each a bar as high as it took long, made of its stages; what did not
//! succeed a cross, a rollback an arrow. Hover tells the figures, a click opens the line below.

use eframe::egui::{
    Align2, Color32, CursorIcon, FontId, Rect, RichText, Role, Sense, Stroke, Ui, WidgetInfo, pos2, vec2,
};
use reload_engine::model::{Change, HistoryEntry, Module, Outcome, Timings};

use crate::{
    steps,
    window::{
        controls::{self, palette},
        details::{card, passage},
        format, icons,
        scene::Scene,
        theme::{self, Palette},
    },
};

const HEIGHT: f32 = 92.0;
/// Of a bar with its gap.
const WIDEST: f32 = 26.0;
/// Less would not be a picture.
const FEWEST: usize = 2;

const STAGES: usize = 11;

/// The stages of a reload with their times, in order.
pub fn stages(timings: &Timings) -> [(&'static str, f64); STAGES] {
    [
        ("read", timings.read),
        ("parse", timings.parse),
        ("plan", timings.plan),
        ("shadow", timings.shadow),
        ("load", timings.load),
        ("bind", timings.bind),
        ("safe point", timings.safe_point),
        ("hooks", timings.hooks),
        ("staging", timings.stage),
        ("adapt", timings.adapt),
        ("commit", timings.commit),
    ]
}

/// What happens outside of the target is blue, in it violet, and the commit, which it may feel, amber. The lightest still
/// stands out from what is behind it.
pub fn stage_colour(palette: &Palette, position: usize) -> Color32 {
    let (colour, share) = match position {
        0..4 => (palette.reloading, 1.0 - 0.12 * position as f32),
        4..10 => (palette.missing, 1.0 - 0.08 * (position - 4) as f32),
        _ => (palette.changed, 1.0),
    };
    theme::mix(palette.canvas, colour, share)
}

pub fn show(ui: &mut Ui, scene: &Scene<'_>, module: &Module, open: &mut Option<usize>) {
    if module.history.len() < FEWEST {
        return;
    }
    let palette = palette(ui);
    card(ui, palette.canvas, palette.line, |ui| {
        let most = module.history.iter().map(|entry| entry.receipt.timings_ms.total).fold(0.0, f64::max).max(0.1);
        let size = vec2(ui.available_width(), HEIGHT);
        let (area, _) = ui.allocate_exact_size(size, Sense::hover());
        let label = format::milliseconds(most);
        let font = theme::small();
        ui.painter().text(area.left_top(), Align2::LEFT_TOP, &label, font, palette.text_weak);
        let plot = Rect::from_min_max(pos2(area.left(), area.top() + 18.0), area.max);
        ui.painter().hline(plot.x_range(), plot.top() - 0.5, Stroke::new(1.0, palette.line));
        ui.painter().hline(plot.x_range(), plot.bottom() - 0.5, Stroke::new(1.0, palette.line_strong));
        let step = (plot.width() / module.history.len() as f32).min(WIDEST);
        for (position, entry) in module.history.iter().enumerate() {
            let left = plot.left() + position as f32 * step;
            let column = Rect::from_x_y_ranges(left..=left + step, plot.y_range());
            bar(ui, scene, (position, entry), column, most, open);
        }
        legend(ui, palette, module);
    });
}

fn bar(
    ui: &Ui,
    scene: &Scene<'_>,
    (position, entry): (usize, &HistoryEntry),
    column: Rect,
    most: f64,
    open: &mut Option<usize>,
) {
    let palette = palette(ui);
    let receipt = &entry.receipt;
    let response = ui.interact(column, ui.scope_id().with(("reload", position)), Sense::CLICK);
    let age = scene.age(entry.time);
    let what = word(entry);
    let total = format::milliseconds(receipt.timings_ms.total);
    let name = format!("{what}, generation {}, {total}", receipt.generation);
    response.widget_info(|| WidgetInfo::labeled(Role::GraphicsSymbol, true, format!("{name}, {age}, in the picture")));
    let painter = ui.painter();
    if *open == Some(position) || response.hovered() {
        painter.rect_filled(column, 0.0, palette.raised_hover);
    }
    let centre = column.center().x;
    let half = (column.width() / 2.0 - 1.0).clamp(1.0, 8.0);
    match (entry.what, receipt.outcome) {
        (Change::Reload, Outcome::Reloaded) => {
            let mut bottom = column.bottom();
            for (stage, (_, ms)) in stages(&receipt.timings_ms).iter().enumerate() {
                let height = (ms / most) as f32 * column.height();
                let part = Rect::from_min_max(pos2(centre - half, bottom - height), pos2(centre + half, bottom));
                painter.rect_filled(part, 0.0, stage_colour(palette, stage));
                bottom -= height;
            }
        }
        (Change::Rollback, _) => {
            let at = pos2(centre, column.bottom() - 10.0);
            painter.text(at, Align2::CENTER_CENTER, icons::ROLLBACK, icons::outline(14.0), palette.changed);
        }
        _ => {
            let at = pos2(centre, column.bottom() - 9.0);
            let font = FontId::new(15.0, crate::window::fonts::icons());
            let colour = if matches!(receipt.outcome, Outcome::Refused | Outcome::Failed) {
                palette.failed
            } else {
                palette.text_weak
            };
            painter.text(at, Align2::CENTER_CENTER, icons::CLOSE, font, colour);
        }
    }
    let clicked = response.clicked();
    let response = response.on_hover_cursor(CursorIcon::PointingHand);
    if !controls::is_covered(&response) {
        response.on_hover_ui(|ui| figures(ui, &name, &age, entry));
    }
    if clicked {
        *open = (*open != Some(position)).then_some(position);
    }
}

/// What a hover tells.
fn figures(ui: &mut Ui, name: &str, age: &str, entry: &HistoryEntry) {
    let palette = palette(ui);
    ui.label(RichText::new(name).font(theme::medium()).color(palette.text));
    ui.label(RichText::new(age).font(theme::small()).color(palette.text_secondary));
    if let Some(failure) = &entry.receipt.failure {
        let text = format!("while {}: {}", steps::of(failure.stage), failure.message);
        ui.label(passage::text(&text, [theme::body(), theme::code()], palette.text));
        return;
    }
    let timings = &entry.receipt.timings_ms;
    let told: Vec<String> = stages(timings)
        .iter()
        .filter(|(_, ms)| *ms > 0.0)
        .map(|(stage, ms)| format!("{stage} {}", format::milliseconds(*ms)))
        .collect();
    ui.label(RichText::new(told.join(" · ")).font(theme::small()).color(palette.text_secondary));
    let pause = format!("the program stood still for {:.2} ms", timings.pause);
    ui.label(RichText::new(pause).font(theme::small()).color(palette.text_secondary));
}

pub fn word(entry: &HistoryEntry) -> &'static str {
    match (entry.what, entry.receipt.outcome) {
        (Change::Rollback, Outcome::Reloaded) => "Rolled back",
        (_, Outcome::Reloaded) => "Reloaded",
        (_, Outcome::Unchanged) => "Unchanged",
        (_, Outcome::Refused) => "Refused",
        (_, Outcome::Failed) => "Failed",
        (_, Outcome::Skipped) => "Skipped",
    }
}

/// The stages that occur in the picture.
fn legend(ui: &mut Ui, palette: &Palette, module: &Module) {
    let mut occur = [false; STAGES];
    for entry in &module.history {
        for (occurs, (_, ms)) in occur.iter_mut().zip(stages(&entry.receipt.timings_ms)) {
            *occurs |= ms > 0.0;
        }
    }
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(10.0, 2.0);
        for (position, (stage, _)) in stages(&Timings::default()).into_iter().enumerate() {
            if !occur[position] {
                continue;
            }
            let text = controls::layout(ui.painter(), stage, theme::small());
            let (rect, _) = ui.allocate_exact_size(vec2(text.size().x + 13.0, 16.0), Sense::hover());
            dot(ui, rect, stage_colour(palette, position));
            let at = pos2(rect.left() + 13.0, rect.center().y - text.size().y / 2.0);
            ui.painter().galley(at, text, palette.text_secondary);
        }
    });
}

/// The colour of a stage, at the left of its line.
pub fn dot(ui: &Ui, line: Rect, colour: Color32) {
    let at = pos2(line.left() + 4.0, line.center().y);
    ui.painter().rect_filled(Rect::from_center_size(at, vec2(8.0, 8.0)), 2.0, colour);
}
