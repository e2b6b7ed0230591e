//! What is being done with a module just now: which stage it has come to, since when, and giving it up while that can be.
//!
//! Nothing for work that is over before one has read of it.

use eframe::egui::{Align, Layout, Rect, RichText, Role, Sense, Ui, WidgetInfo, pos2, vec2};
use reload_engine::{
    model::{Module, Stage},
    progress::Doing,
};

use crate::{
    steps,
    window::{
        action::Action,
        controls::{Button, palette},
        details::card,
        format,
        scene::Scene,
        theme,
    },
};

/// In their order, but that hooks may also run last; the first so many are done outside of the program.
const STAGES: [Stage; 11] = [
    Stage::Read,
    Stage::Validate,
    Stage::Parse,
    Stage::Plan,
    Stage::Shadow,
    Stage::Load,
    Stage::Bind,
    Stage::Stop,
    Stage::Adapt,
    Stage::Hook,
    Stage::Commit,
];
const OUTSIDE: usize = 5;

/// Whether there was something to show.
pub fn show(ui: &mut Ui, scene: &Scene<'_>, module: &Module, actions: &mut Vec<Action>) -> bool {
    let work = scene.tab().and_then(|tab| tab.long_work(scene.now));
    let Some((doing, age)) = work.filter(|(doing, _)| doing.module == module.name) else {
        return false;
    };
    let palette = palette(ui);
    card(ui, palette.canvas, palette.line, |ui| {
        let size = vec2(ui.available_width(), theme::CONTROL);
        ui.allocate_ui_with_layout(size, Layout::left_to_right(Align::Center), |ui| {
            let what = if doing.ahead { "Analysing ahead of the reload" } else { "Reloading" };
            ui.label(RichText::new(what).font(theme::medium()).color(palette.text));
            ui.label(RichText::new(format::seconds(age)).color(palette.text_secondary));
            if !doing.ahead {
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                    let cancel = Button::new("Cancel").named("Cancel this reload").enabled(doing.can_be_cancelled());
                    if cancel.hint("As long as the program itself has not been touched").show(ui).clicked() {
                        actions.push(Action::Cancel);
                    }
                });
            }
        });
        steps(ui, doing);
        let where_ = if at(doing) < OUTSIDE { "outside of the program" } else { "in the program" };
        let text = format!("Step {} of {}: {}, {where_}", at(doing) + 1, STAGES.len(), steps::of(doing.stage));
        ui.label(RichText::new(text).color(palette.text_secondary));
        ui.label(RichText::new("The code that runs now goes on until the last step.").color(palette.text_secondary));
    });
    true
}

fn at(doing: &Doing) -> usize {
    STAGES.iter().position(|stage| *stage == doing.stage).unwrap_or_default()
}

/// One box a stage: those behind are filled, the present one is brighter.
fn steps(ui: &mut Ui, doing: &Doing) {
    let palette = palette(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 8.0), Sense::hover());
    let done = at(doing);
    response.widget_info(|| {
        let mut info =
            WidgetInfo::labeled(Role::ProgressIndicator, true, format!("Progress: {}", steps::of(doing.stage)));
        info.value = Some((done + 1) as f64 / STAGES.len() as f64);
        info
    });
    let step = rect.width() / STAGES.len() as f32;
    for position in 0..STAGES.len() {
        let left = rect.left() + position as f32 * step;
        let part = Rect::from_min_max(pos2(left, rect.top()), pos2(left + step - 2.0, rect.bottom()));
        let full = if position < OUTSIDE { palette.reloading } else { palette.missing };
        let colour = match position {
            _ if position < done => theme::mix(palette.canvas, full, 0.6),
            _ if position == done => full,
            _ => palette.line_strong,
        };
        ui.painter().rect_filled(part, 2.0, colour);
    }
}
