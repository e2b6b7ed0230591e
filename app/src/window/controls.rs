//! The window's own controls: buttons, chips, segments, and text painted in place. Each has a name for assistive technology,
//! takes its colours from the palette and reports clicks; none knows what it is used for.

use std::sync::Arc;

use eframe::egui::text::{LayoutJob, TextWrapping};
use eframe::egui::{
    Align2, Color32, CornerRadius, CursorIcon, FontId, Galley, Painter, Pos2, Rect, Response, Role, Sense, Stroke,
    StrokeKind, Ui, WidgetInfo, WidgetText, pos2, vec2,
};
use reload_engine::model::Status;

use crate::window::{
    format, icons,
    theme::{self, CONTROL, Palette, RADIUS},
};

/// An icon beside words that say the same: nothing that is read aloud.
pub fn icon(ui: &mut Ui, icon: char, font: FontId, colour: Color32) {
    let galley = layout(ui.painter(), &icon.to_string(), font);
    let (rect, _) = ui.allocate_exact_size(galley.size(), Sense::hover());
    ui.painter().galley(rect.min, galley, colour);
}

/// What a field to type in is called aloud; its hint is gone once something is typed.
pub fn name_field(field: &Response, name: &str) {
    field.ctx.accesskit_node_builder(field.id, |node| node.set_label(name));
}

/// A text beside the pointer. Not below a dialog: egui leaves one open as long as the pointer stays where it is, also above
/// what a key has opened.
pub fn hint(response: Response, text: impl Into<WidgetText>) -> Response {
    if is_covered(&response) { response } else { response.on_hover_text(text) }
}

/// Whether a dialog lies above it.
pub fn is_covered(response: &Response) -> bool {
    !response.ctx.memory(|memory| memory.is_above_modal_layer(response.layer_id))
}

pub fn palette(ui: &Ui) -> &'static Palette {
    Palette::of(ui.ctx().theme())
}

/// How much a button asks for attention.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weight {
    Primary,
    Normal,
    /// No frame until hovered.
    Quiet,
}

/// A button with an icon, a text or both.
pub struct Button<'a> {
    /// What it is called aloud, and in its tooltip where it shows no text.
    name: &'a str,
    text: &'a str,
    icon: Option<char>,
    /// The key that does the same, shown at the right.
    key: &'a str,
    weight: Weight,
    enabled: bool,
    /// For a button that stays pressed.
    selected: Option<bool>,
    hint: &'a str,
    height: f32,
}

impl<'a> Button<'a> {
    pub fn new(text: &'a str) -> Button<'a> {
        Button {
            name: text,
            text,
            icon: None,
            key: "",
            weight: Weight::Normal,
            enabled: true,
            selected: None,
            hint: "",
            height: CONTROL,
        }
    }

    /// An icon alone, with a name to be told by.
    pub fn icon(icon: char, name: &'a str) -> Button<'a> {
        Button { name, text: "", icon: Some(icon), weight: Weight::Quiet, hint: name, ..Button::new("") }
    }

    pub fn with_icon(self, icon: char) -> Self {
        Button { icon: Some(icon), ..self }
    }

    pub fn named(self, name: &'a str) -> Self {
        Button { name, ..self }
    }

    pub fn key(self, key: &'a str) -> Self {
        Button { key, ..self }
    }

    pub fn weight(self, weight: Weight) -> Self {
        Button { weight, ..self }
    }

    pub fn enabled(self, enabled: bool) -> Self {
        Button { enabled, ..self }
    }

    pub fn selected(self, selected: bool) -> Self {
        Button { selected: Some(selected), ..self }
    }

    pub fn hint(self, hint: &'a str) -> Self {
        Button { hint, ..self }
    }

    pub fn height(self, height: f32) -> Self {
        Button { height, ..self }
    }

    pub fn show(self, ui: &mut Ui) -> Response {
        let palette = palette(ui);
        let painter = ui.painter();
        let icon = self.icon.map(|icon| layout(painter, &icon.to_string(), icons::outline(17.0)));
        let text = (!self.text.is_empty()).then(|| layout(painter, self.text, theme::medium()));
        let key = (!self.key.is_empty()).then(|| layout(painter, self.key, theme::code_small()));
        let padding = if text.is_some() { 10.0 } else { 6.5 };
        let parts = [&icon, &text, &key];
        let content: f32 = parts.iter().filter_map(|part| part.as_ref()).map(|galley| galley.size().x).sum();
        let gaps = parts.iter().filter(|part| part.is_some()).count().saturating_sub(1) as f32 * 6.0;
        let sense = if self.enabled { Sense::click() } else { Sense::hover() };
        let (rect, response) = ui.allocate_exact_size(vec2(content + gaps + 2.0 * padding, self.height), sense);
        let (name, enabled, selected) = (self.name, self.enabled, self.selected);
        response.widget_info(|| match selected {
            Some(selected) => WidgetInfo::selected(Role::Button, enabled, selected, name),
            None => WidgetInfo::labeled(Role::Button, enabled, name),
        });
        if ui.is_rect_visible(rect) {
            let (fill, stroke, colour) = self.look(palette, &response);
            let painter = ui.painter();
            painter.rect(rect, RADIUS, fill, Stroke::new(1.0, stroke), StrokeKind::Inside);
            focus_ring(painter, rect, RADIUS, &response, palette);
            let mut x = rect.left() + padding;
            let key_colour = if self.weight == Weight::Primary { colour } else { palette.text_weak };
            for (part, colour) in [(icon, colour), (text, colour), (key, key_colour)] {
                if let Some(galley) = part {
                    let size = galley.size();
                    painter.galley(pos2(x, rect.center().y - size.y / 2.0), galley, colour);
                    x += size.x + 6.0;
                }
            }
        }
        let response = if self.enabled { response.on_hover_cursor(CursorIcon::PointingHand) } else { response };
        if self.hint.is_empty() { response } else { hint(response, self.hint) }
    }

    /// Fill, frame and text.
    fn look(&self, palette: &Palette, response: &Response) -> (Color32, Color32, Color32) {
        let over = self.enabled && (response.hovered() || response.is_pointer_button_down_on());
        let clear = Color32::TRANSPARENT;
        if !self.enabled {
            return match self.weight {
                Weight::Quiet => (clear, clear, palette.text_weak),
                Weight::Primary | Weight::Normal => (palette.panel, palette.line, palette.text_weak),
            };
        }
        match self.weight {
            Weight::Primary => {
                let fill = if over { palette.accent_hover } else { palette.accent };
                (fill, fill, palette.on_accent)
            }
            Weight::Normal => {
                let fill = if over { palette.raised_hover } else { palette.raised };
                (fill, palette.line_strong, palette.text)
            }
            Weight::Quiet => {
                let text = match self.selected {
                    Some(true) => palette.accent_text,
                    _ => palette.text_secondary,
                };
                (if over { palette.raised_hover } else { clear }, clear, text)
            }
        }
    }
}

/// One of several choices side by side.
pub struct Segment<'a, T> {
    pub value: T,
    pub label: &'a str,
    /// What it is called aloud.
    pub name: &'a str,
    /// The key that does the same.
    pub key: &'a str,
}

/// One choice of several, side by side. Returns the choice clicked.
pub fn segmented<T: Copy + PartialEq>(
    ui: &mut Ui,
    choices: &[Segment<'_, T>],
    chosen: Option<T>,
    enabled: bool,
) -> Option<T> {
    let palette = palette(ui);
    let painter = ui.painter().clone();
    let labels: Vec<Arc<Galley>> =
        choices.iter().map(|segment| layout(&painter, segment.label, theme::medium())).collect();
    let width: f32 = labels.iter().map(|label| label.size().x + 20.0).sum::<f32>() + 4.0;
    let (frame, _) = ui.allocate_exact_size(vec2(width, CONTROL + 2.0), Sense::hover());
    painter.rect(frame, RADIUS, palette.canvas, Stroke::new(1.0, palette.line_strong), StrokeKind::Inside);
    let mut x = frame.left() + 2.0;
    let mut clicked = None;
    for (Segment { value, label, name, key }, galley) in choices.iter().zip(labels) {
        let size = galley.size();
        let rect = Rect::from_min_max(pos2(x, frame.top() + 2.0), pos2(x + size.x + 20.0, frame.bottom() - 2.0));
        x = rect.right();
        let selected = chosen == Some(*value);
        let sense = if enabled { Sense::click() } else { Sense::hover() };
        let response = ui.interact(rect, ui.scope_id().with(("segment", *label)), sense);
        response.widget_info(|| WidgetInfo::selected(Role::RadioButton, enabled, selected, name));
        let (fill, colour) = match (selected, enabled) {
            (true, true) => (palette.accent, palette.on_accent),
            (true, false) => (palette.line, palette.text_secondary),
            (false, true) if response.hovered() => (palette.raised_hover, palette.text),
            (false, true) => (Color32::TRANSPARENT, palette.text_secondary),
            (false, false) => (Color32::TRANSPARENT, palette.text_weak),
        };
        painter.rect_filled(rect, CornerRadius::same(4), fill);
        focus_ring(&painter, rect, CornerRadius::same(4), &response, palette);
        painter.galley(rect.center() - size / 2.0, galley, colour);
        let response = hint(response, format!("{name} ({key})"));
        if enabled && response.on_hover_cursor(CursorIcon::PointingHand).clicked() {
            clicked = Some(*value);
        }
    }
    clicked
}

/// A rounded filter that is either on or off, with an optional icon before its text.
pub fn filter_chip(
    ui: &mut Ui,
    name: &str,
    text: &str,
    icon: Option<(char, FontId, Color32)>,
    selected: bool,
) -> Response {
    let palette = palette(ui);
    let icon = icon.map(|(icon, font, colour)| (layout(ui.painter(), &icon.to_string(), font), colour));
    let galley = layout(ui.painter(), text, theme::medium());
    let icon_width = icon.as_ref().map_or(0.0, |(icon, _)| icon.size().x + 5.0);
    let (rect, response) = ui.allocate_exact_size(vec2(galley.size().x + icon_width + 22.0, 28.0), Sense::click());
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, selected, name));
    let fill = match (selected, response.hovered()) {
        (true, _) => palette.row_selected,
        (false, true) => palette.raised_hover,
        (false, false) => Color32::TRANSPARENT,
    };
    let stroke = if selected { palette.accent_text } else { palette.line_strong };
    let round = CornerRadius::same(14);
    let painter = ui.painter();
    painter.rect(rect, round, fill, Stroke::new(1.0, stroke), StrokeKind::Inside);
    focus_ring(painter, rect, round, &response, palette);
    let mut x = rect.left() + 11.0;
    if let Some((icon, colour)) = icon {
        let size = icon.size();
        painter.galley(pos2(x, rect.center().y - size.y / 2.0), icon, colour);
        x += size.x + 5.0;
    }
    let y = rect.center().y - galley.size().y / 2.0;
    painter.galley(pos2(x, y), galley, palette.text);
    response.on_hover_cursor(CursorIcon::PointingHand)
}

/// A line of a menu, with the key that does the same. Returns whether it was chosen.
pub fn menu_line(ui: &mut Ui, text: &str, key: &str, enabled: bool) -> bool {
    let palette = palette(ui);
    let sense = if enabled { Sense::click() } else { Sense::hover() };
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width().max(230.0), 28.0), sense);
    response.widget_info(|| WidgetInfo::labeled(Role::MenuItem, enabled, text));
    if enabled && (response.hovered() || response.has_focus()) {
        ui.painter().rect_filled(rect, RADIUS, palette.raised_hover);
    }
    let painter = ui.painter();
    let colour = if enabled { palette.text } else { palette.text_weak };
    let right = rect.right_center() - vec2(8.0, 0.0);
    let key = painter.text(right, Align2::RIGHT_CENTER, key, theme::code_small(), palette.text_weak);
    let at = rect.left_center() + vec2(8.0, 0.0);
    let room = key.left() - at.x - 12.0;
    line(painter, at, Align2::LEFT_CENTER, text, theme::body(), colour, room);
    let response = if enabled { response.on_hover_cursor(CursorIcon::PointingHand) } else { response };
    response.clicked()
}

/// Icon, word and colour of a status, painted with its left middle at `at`. Returns where.
pub fn status_chip(painter: &Painter, palette: &Palette, at: Pos2, status: Status, background: Color32) -> Rect {
    let colour = palette.status(status);
    let (icon, family) = icons::status(status);
    let icon = layout(painter, &icon.to_string(), FontId::new(14.5, family));
    let word = layout(painter, icons::status_word(status), theme::small_medium());
    let width = icon.size().x + word.size().x + 4.0 + 17.0;
    let rect = Rect::from_min_size(pos2(at.x, at.y - 11.0), vec2(width, 22.0));
    painter.rect_filled(rect, CornerRadius::same(11), palette.tinted(colour, background));
    let mut x = rect.left() + 8.0;
    for part in [icon, word] {
        let size = part.size();
        painter.galley(pos2(x, at.y - size.y / 2.0), part, colour);
        x += size.x + 4.0;
    }
    rect
}

/// A galley on one line, to be coloured when painted.
pub fn layout(painter: &Painter, text: &str, font: FontId) -> Arc<Galley> {
    painter.layout_no_wrap(text.to_owned(), font, Color32::PLACEHOLDER)
}

/// Paints one line, cut with an ellipsis at `width`.
pub fn line(painter: &Painter, at: Pos2, align: Align2, text: &str, font: FontId, colour: Color32, width: f32) -> Rect {
    let mut job = LayoutJob::simple_singleline(text.to_owned(), font, colour);
    job.wrap = TextWrapping::truncate_at_width(width);
    let galley = painter.layout_job(job);
    let rect = align.anchor_size(at, galley.size());
    painter.galley(rect.min, galley, colour);
    rect
}

/// Numbers flush right, every digit as wide as the widest: Inter's digits differ in width, and egui cannot ask the font for its
/// tabular ones. Laid out once for all rows of a table.
pub struct Tabular {
    font: FontId,
    digits: [Arc<Galley>; 10],
    /// How wide a digit is.
    cell: f32,
}

impl Tabular {
    pub fn new(painter: &Painter, font: FontId) -> Tabular {
        let widths = |digit| painter.fonts_mut(|fonts| fonts.glyph_width(&font, digit));
        let cell = ('0'..='9').map(widths).fold(0.0_f32, f32::max);
        let digits = std::array::from_fn(|digit| layout(painter, &digit.to_string(), font.clone()));
        Tabular { font, digits, cell }
    }

    pub fn paint(&self, painter: &Painter, right_middle: Pos2, text: &str, colour: Color32) {
        let mut x = right_middle.x;
        let mut paint = |galley: Arc<Galley>, width: f32| {
            x -= width;
            let inset = (width - galley.size().x) / 2.0;
            painter.galley(pos2(x + inset, right_middle.y - galley.size().y / 2.0), galley, colour);
        };
        let mut rest = text;
        while let Some(last) = rest.chars().next_back() {
            if let Some(digit) = last.to_digit(10) {
                paint(Arc::clone(&self.digits[digit as usize]), self.cell);
                rest = &rest[..rest.len() - 1];
            } else {
                let number = rest.trim_end_matches(|letter: char| !letter.is_ascii_digit());
                let words = layout(painter, &rest[number.len()..], self.font.clone());
                let width = words.size().x;
                paint(words, width);
                rest = number;
            }
        }
    }
}

/// The longest version of a path that fits into `width`. For fonts of one width only.
pub fn fit_path(painter: &Painter, path: &str, font: &FontId, width: f32) -> String {
    let advance = painter.fonts_mut(|fonts| fonts.glyph_width(font, 'm'));
    format::elide_path(path, (width / advance.max(1.0)) as usize)
}

/// The longest version of a name, its middle left out, that fits into `width`: names that begin alike differ at their ends.
/// Laid out, as that is most of what a row costs: to be painted as it is.
pub fn fit_name(painter: &Painter, name: &str, font: &FontId, width: f32) -> Arc<Galley> {
    let whole = layout(painter, name, font.clone());
    if whole.size().x <= width {
        return whole;
    }
    let elided = |limit| layout(painter, &format::elide_middle(name, limit), font.clone());
    let (mut fitting, mut too_long) = (1, name.chars().count());
    while too_long - fitting > 1 {
        let limit = fitting.midpoint(too_long);
        if elided(limit).size().x <= width {
            fitting = limit;
        } else {
            too_long = limit;
        }
    }
    elided(fitting)
}

pub fn focus_ring(painter: &Painter, rect: Rect, radius: CornerRadius, response: &Response, palette: &Palette) {
    if response.has_focus() {
        painter.rect_stroke(rect, radius, Stroke::new(2.0, palette.accent_text), StrokeKind::Inside);
    }
}
