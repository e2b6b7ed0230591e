//! One tab for each open target, while there are several.

use eframe::egui::{
    Align2, Color32, CursorIcon, FontId, Rect, Role, ScrollArea, Sense, Stroke, StrokeKind, Ui, WidgetInfo, pos2, vec2,
};
use reload_engine::model::Status;

use crate::window::{
    action::Action,
    controls::{self, palette},
    icons,
    scene::Scene,
    target_tab::TargetTab,
    theme::{self, RADIUS},
    top_bar,
};

const HEIGHT: f32 = 28.0;

pub fn show(ui: &mut Ui, scene: &Scene<'_>, actions: &mut Vec<Action>) {
    ScrollArea::horizontal().show(ui, |ui| {
        ui.horizontal_centered(|ui| {
            ui.spacing_mut().item_spacing.x = 6.0;
            for (position, tab) in scene.tabs.iter().enumerate() {
                show_tab(ui, position, tab, position == scene.active, actions);
            }
        });
    });
}

fn show_tab(ui: &mut Ui, position: usize, tab: &TargetTab, shown: bool, actions: &mut Vec<Action>) {
    let palette = palette(ui);
    let (icon, colour, state) = top_bar::connection(palette, Some(tab));
    let title = tab.title();
    let failed = failures(tab);
    let text = controls::layout(ui.painter(), &title, theme::medium());
    let count = (failed > 0).then(|| controls::layout(ui.painter(), &failed.to_string(), theme::small_medium()));
    let badge = count.as_ref().map_or(0.0, |count| count.size().x + 25.0);
    let width = 10.0 + 22.0 + text.size().x + badge + 30.0;
    let (rect, response) = ui.allocate_exact_size(vec2(width, HEIGHT), Sense::click());
    let name = match failed {
        0 => format!("{title}, {state}"),
        n => format!("{title}, {state}, {n} failed"),
    };
    response.widget_info(|| WidgetInfo::labeled(Role::Tab, true, &name));
    ui.ctx().accesskit_node_builder(response.id, |node| node.set_selected(shown));
    let (fill, line) = match (shown, response.hovered()) {
        (true, _) => (palette.row_selected, palette.accent_text),
        (false, true) => (palette.raised_hover, palette.line_strong),
        (false, false) => (Color32::TRANSPARENT, palette.line_strong),
    };
    let painter = ui.painter();
    painter.rect(rect, RADIUS, fill, Stroke::new(1.0, line), StrokeKind::Inside);
    controls::focus_ring(painter, rect, RADIUS, &response, palette);
    let middle = rect.center().y;
    let left = rect.left() + 10.0;
    painter.text(pos2(left, middle), Align2::LEFT_CENTER, icon, icons::outline(15.0), colour);
    let left = left + 22.0;
    let after = left + text.size().x + 8.0;
    painter.galley(pos2(left, middle - text.size().y / 2.0), text, palette.text);
    if let Some(count) = count {
        let (icon, family) = icons::status(Status::Failed);
        painter.text(pos2(after, middle), Align2::LEFT_CENTER, icon, FontId::new(14.0, family), palette.failed);
        painter.galley(pos2(after + 17.0, middle - count.size().y / 2.0), count, palette.failed);
    }
    if controls::hint(response.on_hover_cursor(CursorIcon::PointingHand), state).clicked() {
        actions.push(Action::Show(position));
    }
    let cross = Rect::from_center_size(pos2(rect.right() - 15.0, middle), vec2(20.0, 20.0));
    let close = ui.interact(cross, ui.scope_id().with(("close", position)), Sense::click());
    close.widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("Close {title}")));
    let painter = ui.painter();
    if close.hovered() {
        painter.rect_filled(cross, RADIUS, palette.raised_hover);
    }
    painter.text(cross.center(), Align2::CENTER_CENTER, icons::CLOSE, icons::outline(13.0), palette.text_secondary);
    controls::focus_ring(painter, cross, RADIUS, &close, palette);
    if controls::hint(close, "Close; the program runs on (Ctrl+W)").clicked() {
        actions.push(Action::Close(position));
    }
}

fn failures(tab: &TargetTab) -> usize {
    let modules = tab.snapshot.as_ref().map(|snapshot| snapshot.modules.as_slice()).unwrap_or_default();
    modules.iter().filter(|module| matches!(module.status, Status::Failed | Status::Refused)).count()
}
