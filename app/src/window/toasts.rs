//! Short news in the lower corner, above details that stand below the list, as whoever opens those wants to read them: they go
//! by themselves, unless something failed; that stays until it was read.

use std::time::{Duration, SystemTime};

use eframe::egui::{
    Align, Align2, Area, FontId, Frame, Id, Label, Layout, Margin, Order, Role, Stroke, Ui, WidgetInfo, pos2, vec2,
};

use crate::window::{
    action::Action,
    controls::{self, Button, palette},
    details::passage,
    icons,
    scene::Scene,
    theme,
};

/// How long news stay that need no answer.
pub const STAY: Duration = Duration::from_secs(6);
/// More would cover the table.
const MOST: usize = 4;
/// Between them and the edges.
const MARGIN: f32 = 16.0;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Toast {
    pub message: String,
    pub failed: bool,
    pub since: SystemTime,
}

/// Adds news; the same again only begins anew.
pub fn add(toasts: &mut Vec<Toast>, toast: Toast) {
    toasts.retain(|other| other.message != toast.message);
    toasts.push(toast);
    let excess = toasts.len().saturating_sub(MOST);
    toasts.drain(..excess);
}

/// Drops what was shown long enough; when the next one is due.
pub fn expire(toasts: &mut Vec<Toast>, now: SystemTime) -> Option<Duration> {
    let age = |toast: &Toast| now.duration_since(toast.since).unwrap_or_default();
    toasts.retain(|toast| toast.failed || age(toast) < STAY);
    toasts.iter().filter(|toast| !toast.failed).map(|toast| STAY.saturating_sub(age(toast))).min()
}

/// `bottom` is where the list ends.
pub fn show(ui: &mut Ui, scene: &Scene<'_>, bottom: f32, actions: &mut Vec<Action>) {
    if scene.toasts.is_empty() {
        return;
    }
    let palette = palette(ui);
    let screen = ui.ctx().content_rect();
    let width = 400.0_f32.min(screen.width() - 2.0 * MARGIN);
    let area = Area::new(Id::unique("toasts")).order(Order::Foreground);
    let area = area.pivot(Align2::RIGHT_BOTTOM).fixed_pos(pos2(screen.right() - MARGIN, bottom - MARGIN));
    let shown = area.show(ui.ctx(), |ui| {
        ui.set_width(width);
        ui.spacing_mut().item_spacing.y = 8.0;
        for (position, toast) in scene.toasts.iter().enumerate() {
            let (icon, font, colour) = if toast.failed {
                (icons::WARNING, icons::outline(18.0), palette.failed)
            } else {
                (icons::CURRENT, icons::filled(18.0), palette.current)
            };
            let frame = Frame::popup(ui.style()).fill(palette.popup).stroke(Stroke::new(1.0, palette.line_strong));
            let frame = frame.corner_radius(theme::RADIUS_CARD).inner_margin(Margin::symmetric(12, 8));
            frame.show(ui, |ui| line(ui, position, toast, (icon, font, colour), actions));
        }
        ui.min_rect()
    });
    // Where they begin follows from how high they were when last drawn. Where there is no room above it stays so.
    if shown.inner.bottom() > bottom - MARGIN + 0.5 && shown.inner.top() > screen.top() + MARGIN {
        ui.ctx().request_repaint();
    }
}

fn line(
    ui: &mut Ui,
    position: usize,
    toast: &Toast,
    (icon, font, colour): (char, FontId, eframe::egui::Color32),
    actions: &mut Vec<Action>,
) {
    let size = vec2(ui.available_width(), theme::CONTROL);
    ui.allocate_ui_with_layout(size, Layout::right_to_left(Align::Center), |ui| {
        if Button::icon(icons::CLOSE, "Dismiss this message").show(ui).clicked() {
            actions.push(Action::DismissToast(position));
        }
        ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
            ui.spacing_mut().item_spacing.x = 8.0;
            controls::icon(ui, icon, font, colour);
            // Wrapped by itself: beside an icon text would run on, below what stands at the right.
            let text = passage::text(&toast.message, [theme::body(), theme::code()], palette(ui).text);
            let label = ui.add(Label::new(text).wrap());
            // Read aloud when it appears.
            label.widget_info(|| WidgetInfo::labeled(Role::Status, true, &toast.message));
        });
    });
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{STAY, Toast, add, expire};

    #[test]
    fn news_go_and_failures_stay() {
        let since = SystemTime::UNIX_EPOCH;
        let toast = |message: &str, failed| Toast { message: message.to_owned(), failed, since };
        let mut toasts = Vec::new();
        for message in ["a", "b", "a"] {
            add(&mut toasts, toast(message, false));
        }
        add(&mut toasts, toast("c", true));
        assert_eq!(toasts.len(), 3, "the same is said once");
        assert_eq!(expire(&mut toasts, since + Duration::from_secs(2)), Some(STAY - Duration::from_secs(2)));
        assert_eq!(expire(&mut toasts, since + STAY), None);
        assert_eq!(toasts, [toast("c", true)]);
        for n in 0..9 {
            add(&mut toasts, toast(&n.to_string(), true));
        }
        assert_eq!(toasts.len(), super::MOST);
    }
}
