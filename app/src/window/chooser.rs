//! A field to type into above a list to choose from: the command palette and the target picker are both this.

use eframe::egui::{
    Align2, Color32, CornerRadius, FontFamily, FontId, Id, Key, Modifiers, Response, Role, ScrollArea, Sense, TextEdit,
    Ui, UiBuilder, WidgetInfo, pos2, vec2,
};

use crate::window::{
    controls::{self, palette},
    icons, theme,
};

const ENTRY: f32 = 34.0;

/// What is typed and which entry the keys stand on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chooser {
    pub text: String,
    cursor: usize,
}

/// One line of the list.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    pub value: T,
    pub icon: char,
    pub colour: Option<Color32>,
    pub label: String,
    /// Dimmed, behind the label.
    pub detail: String,
    /// At the right: a key, a state.
    pub aside: String,
    pub enabled: bool,
    /// What it is one of; told above the first of them while nothing is typed.
    pub group: &'static str,
}

impl<T> Entry<T> {
    pub fn new(value: T, icon: char, label: impl Into<String>) -> Entry<T> {
        Entry {
            value,
            icon,
            colour: None,
            label: label.into(),
            detail: String::new(),
            aside: String::new(),
            enabled: true,
            group: "",
        }
    }

    pub fn in_group(self, group: &'static str) -> Entry<T> {
        Entry { group, ..self }
    }
}

/// Shows field and list. Returns the value of the entry chosen.
pub fn show<T>(
    ui: &mut Ui,
    chooser: &mut Chooser,
    id: Id,
    hint: &str,
    nothing: &str,
    entries: Vec<Entry<T>>,
    max_height: f32,
) -> Option<T> {
    let (up, down, enter) = ui.input_mut(|input| {
        (
            input.count_and_consume_key(Modifiers::NONE, Key::ArrowUp),
            input.count_and_consume_key(Modifiers::NONE, Key::ArrowDown),
            input.consume_key(Modifiers::NONE, Key::Enter),
        )
    });
    let before = chooser.text.clone();
    let field = ui.add(
        TextEdit::singleline(&mut chooser.text)
            .id(id)
            .hint_text(hint)
            .desired_width(f32::INFINITY)
            .margin(vec2(10.0, 7.0))
            .font(theme::body()),
    );
    controls::name_field(&field, hint);
    if !field.has_focus() {
        field.request_focus();
    }
    let mut ranked: Vec<(u32, Entry<T>)> = entries
        .into_iter()
        .filter_map(|entry| Some((rank(&chooser.text, &entry.label, &entry.detail)?, entry)))
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    if chooser.text != before {
        chooser.cursor = 0;
    }
    let last = ranked.len().saturating_sub(1);
    chooser.cursor = (chooser.cursor + down).min(last).saturating_sub(up);
    ui.add_space(4.0);
    let mut chosen = None;
    let moved = up + down > 0;
    // A dialog remembers its size: without the least height a list that was once filtered would stay low.
    let list = ScrollArea::vertical().max_height(max_height).min_scrolled_height(max_height);
    let typed = !chooser.text.trim().is_empty();
    let content = UiBuilder::new().accessibility_role(Role::ListBox).accessibility_label(hint);
    list.auto_shrink([false, true]).show(ui, |ui| {
        ui.scope_builder(content, |ui| {
            ui.spacing_mut().item_spacing.y = 2.0;
            let mut group = "";
            if ranked.is_empty() {
                ui.add_space(8.0);
                ui.label(nothing);
                ui.add_space(8.0);
            }
            for (position, (_, entry)) in ranked.into_iter().enumerate() {
                if !typed && entry.group != group {
                    group = entry.group;
                    heading(ui, group);
                }
                let under_cursor = position == chooser.cursor;
                let (response, clicked) = line(ui, &entry, under_cursor);
                if under_cursor {
                    // The keyboard is with the field; what it would choose is this line.
                    let line = response.id.accesskit_id();
                    ui.ctx().accesskit_node_builder(id, |node| node.set_active_descendant(line));
                    if moved {
                        ui.scroll_to_rect(response.rect, None);
                    }
                }
                if entry.enabled && (clicked || (under_cursor && enter)) {
                    chosen = Some(entry.value);
                }
            }
        })
    });
    chosen
}

fn heading(ui: &mut Ui, text: &str) {
    let palette = palette(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 24.0), Sense::hover());
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, text));
    let at = rect.left_center() + vec2(10.0, 2.0);
    ui.painter().text(at, Align2::LEFT_CENTER, text, theme::small_medium(), palette.text_weak);
}

/// One line of a list, perhaps the one the keys stand on, and whether it was clicked.
pub fn line<T>(ui: &mut Ui, entry: &Entry<T>, under_cursor: bool) -> (Response, bool) {
    let palette = palette(ui);
    let sense = if entry.enabled { Sense::CLICK } else { Sense::hover() };
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), ENTRY), sense);
    response.widget_info(|| WidgetInfo::labeled(Role::ListBoxOption, entry.enabled, name(entry)));
    ui.ctx().accesskit_node_builder(response.id, |node| node.set_selected(under_cursor));
    let clicked = response.clicked();
    // Why an entry cannot be chosen does not always fit.
    let response = if entry.enabled { response } else { controls::hint(response, &entry.detail) };
    if !ui.is_rect_visible(rect) {
        return (response, clicked);
    }
    let fill = match (under_cursor, response.hovered() && entry.enabled) {
        (true, _) => palette.row_selected,
        (false, true) => palette.raised_hover,
        (false, false) => Color32::TRANSPARENT,
    };
    let painter = ui.painter();
    painter.rect_filled(rect, CornerRadius::same(6), fill);
    let middle = rect.center().y;
    let weak = if entry.enabled { palette.text_secondary } else { palette.text_weak };
    let colour = entry.colour.unwrap_or(weak);
    painter.text(pos2(rect.left() + 10.0, middle), Align2::LEFT_CENTER, entry.icon, icons::outline(16.0), colour);
    let mut right = rect.right() - 10.0;
    if !entry.aside.is_empty() {
        let font = FontId::new(11.5, FontFamily::Monospace);
        let text = painter.text(pos2(right, middle), Align2::RIGHT_CENTER, &entry.aside, font, palette.text_weak);
        right = text.left() - 12.0;
    }
    let left = rect.left() + 36.0;
    let text = if entry.enabled { palette.text } else { palette.text_weak };
    let label = controls::line(
        painter,
        pos2(left, middle),
        Align2::LEFT_CENTER,
        &entry.label,
        theme::body(),
        text,
        right - left,
    );
    let left = label.right() + 10.0;
    if !entry.detail.is_empty() && right - left > 60.0 {
        let at = pos2(left, middle);
        // Of a path the end matters most, of a command or a sentence its beginning.
        if entry.detail.starts_with('/') {
            let font = theme::code_small();
            let detail = controls::fit_path(painter, &entry.detail, &font, right - left);
            painter.text(at, Align2::LEFT_CENTER, detail, font, palette.text_weak);
        } else {
            let font = theme::small();
            controls::line(painter, at, Align2::LEFT_CENTER, &entry.detail, font, palette.text_weak, right - left);
        }
    }
    (response, clicked)
}

fn name<T>(entry: &Entry<T>) -> String {
    if entry.detail.is_empty() { entry.label.clone() } else { format!("{}, {}", entry.label, entry.detail) }
}

/// How well an entry answers what is typed, the least best; `None` where it does not.
pub fn rank(typed: &str, label: &str, detail: &str) -> Option<u32> {
    let label = label.to_lowercase();
    let detail = detail.to_lowercase();
    let mut rank = 0;
    for word in typed.to_lowercase().split_whitespace() {
        rank += if label.starts_with(word) {
            0
        } else if label.contains(word) {
            1
        } else if detail.contains(word) {
            2
        } else if is_subsequence(word, &label) {
            3
        } else {
            return None;
        };
    }
    Some(rank)
}

fn is_subsequence(short: &str, long: &str) -> bool {
    let mut rest = long.chars();
    short.chars().all(|wanted| rest.any(|found| found == wanted))
}

#[cfg(test)]
mod tests {
    use super::rank;

    #[test]
    fn beginnings_come_before_middles_before_scattered_letters() {
        let label = "Reload now";
        assert_eq!(rank("", label, ""), Some(0));
        assert_eq!(rank("rel", label, ""), Some(0));
        assert_eq!(rank("now", label, ""), Some(1));
        assert_eq!(rank("48213", label, "pid 48213"), Some(2));
        assert_eq!(rank("rnw", label, ""), Some(3));
        assert_eq!(rank("load x", label, ""), None);
    }
}
