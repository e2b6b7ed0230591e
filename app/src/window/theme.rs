//! Colours, sizes and text styles of the window: the only place where a colour is written down.
//!
//! Every text colour is paired with the backgrounds it may stand on in [`Palette::text_pairs`]; a test computes the contrast
//! of each. Nothing here draws.

use eframe::egui::{
    Color32, Context, CornerRadius, FontFamily, FontId, Margin, Shadow, Stroke, Style, TextStyle, Theme, Visuals,
    style::ScrollAnimation, style::ScrollStyle, vec2,
};
use reload_engine::model::Status;

use crate::window::fonts;

pub const TOP_BAR: f32 = 52.0;
pub const TAB_STRIP: f32 = 40.0;
pub const TOOL_BAR: f32 = 46.0;
pub const STATUS_BAR: f32 = 30.0;
pub const ROW: f32 = 44.0;
pub const ROW_COMPACT: f32 = 28.0;
pub const TABLE_HEADER: f32 = 34.0;
/// Height of buttons and fields.
pub const CONTROL: f32 = 30.0;
/// Horizontal distance of content from the window's edge.
pub const GUTTER: f32 = 12.0;
/// From this width on the details stand at the right, below it under the table.
pub const WIDE: f32 = 1080.0;

pub const RADIUS: CornerRadius = CornerRadius::same(6);
pub const RADIUS_CARD: CornerRadius = CornerRadius::same(8);

/// The colours of one theme.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Palette {
    /// Behind the table.
    pub canvas: Color32,
    /// Behind bars and the details.
    pub panel: Color32,
    /// Buttons and fields.
    pub raised: Color32,
    pub raised_hover: Color32,
    pub row_hover: Color32,
    pub row_selected: Color32,
    /// Dialogs and pop-ups.
    pub popup: Color32,
    pub line: Color32,
    pub line_strong: Color32,
    pub text: Color32,
    /// Values that are not the first thing to read.
    pub text_secondary: Color32,
    /// Labels, hints, the words of disabled controls.
    pub text_weak: Color32,
    /// Icons of disabled controls.
    pub icon_disabled: Color32,
    /// Fill of the primary button and the selected segment.
    pub accent: Color32,
    pub accent_hover: Color32,
    pub on_accent: Color32,
    /// Links, active icons.
    pub accent_text: Color32,
    pub current: Color32,
    pub changed: Color32,
    pub reloading: Color32,
    pub failed: Color32,
    pub skipped: Color32,
    pub missing: Color32,
    /// How much of a status colour is mixed into the background of its chip.
    tint: f32,
}

impl Palette {
    pub const DARK: Palette = Palette {
        canvas: rgb(0x11151b),
        panel: rgb(0x171b22),
        raised: rgb(0x1f252e),
        raised_hover: rgb(0x2a323e),
        row_hover: rgb(0x181e27),
        row_selected: rgb(0x172a45),
        popup: rgb(0x1f252e),
        line: rgb(0x262d38),
        line_strong: rgb(0x3a4454),
        text: rgb(0xe9edf3),
        text_secondary: rgb(0xb4bdca),
        text_weak: rgb(0x98a3b2),
        icon_disabled: rgb(0x748092),
        accent: rgb(0x1f6ad0),
        accent_hover: rgb(0x2a70d2),
        on_accent: rgb(0xffffff),
        accent_text: rgb(0x7dbbff),
        current: rgb(0x4fc99a),
        changed: rgb(0xf0b542),
        reloading: rgb(0x6cb2ff),
        failed: rgb(0xff8266),
        skipped: rgb(0xa6b0be),
        missing: rgb(0xd3a5f5),
        tint: 0.14,
    };

    pub const LIGHT: Palette = Palette {
        canvas: rgb(0xffffff),
        panel: rgb(0xf5f7fa),
        raised: rgb(0xffffff),
        raised_hover: rgb(0xe9eef5),
        row_hover: rgb(0xf4f7fb),
        row_selected: rgb(0xdceafd),
        popup: rgb(0xffffff),
        line: rgb(0xe3e7ec),
        line_strong: rgb(0xc6cdd7),
        text: rgb(0x14181f),
        text_secondary: rgb(0x414b59),
        text_weak: rgb(0x535d6b),
        icon_disabled: rgb(0x7b8593),
        accent: rgb(0x1560d4),
        accent_hover: rgb(0x0f53bd),
        on_accent: rgb(0xffffff),
        accent_text: rgb(0x0b5cc2),
        current: rgb(0x06683c),
        changed: rgb(0x7d4e00),
        reloading: rgb(0x0b57b8),
        failed: rgb(0xb02a10),
        skipped: rgb(0x535d6b),
        missing: rgb(0x7a35b8),
        tint: 0.09,
    };

    pub fn of(theme: Theme) -> &'static Palette {
        match theme {
            Theme::Dark => &Palette::DARK,
            Theme::Light => &Palette::LIGHT,
        }
    }

    pub fn status(&self, status: Status) -> Color32 {
        match status {
            Status::Current => self.current,
            Status::Changed => self.changed,
            Status::Reloading => self.reloading,
            Status::Refused | Status::Failed => self.failed,
            Status::Skipped => self.skipped,
            Status::Missing => self.missing,
        }
    }

    /// The fill of a chip or card of this colour on that background.
    pub fn tinted(&self, colour: Color32, background: Color32) -> Color32 {
        mix(background, colour, self.tint)
    }

    /// Every text colour with every background it stands on, and where.
    #[cfg(test)]
    fn text_pairs(&self) -> Vec<(&'static str, Color32, Color32)> {
        let mut pairs = Vec::new();
        let surfaces =
            [self.canvas, self.panel, self.raised, self.raised_hover, self.row_hover, self.row_selected, self.popup];
        let texts = [
            ("text", self.text),
            ("secondary", self.text_secondary),
            ("weak", self.text_weak),
            ("accent", self.accent_text),
            ("current", self.current),
            ("changed", self.changed),
            ("reloading", self.reloading),
            ("failed", self.failed),
            ("skipped", self.skipped),
            ("missing", self.missing),
        ];
        for surface in surfaces {
            pairs.extend(texts.iter().map(|(name, text)| (*name, *text, surface)));
        }
        for status in [
            Status::Current,
            Status::Changed,
            Status::Reloading,
            Status::Refused,
            Status::Failed,
            Status::Skipped,
            Status::Missing,
        ] {
            for surface in [self.canvas, self.panel, self.row_hover, self.row_selected] {
                let chip = self.tinted(self.status(status), surface);
                pairs.push(("status on its chip", self.status(status), chip));
                pairs.push(("text in a card", self.text, chip));
                pairs.push(("secondary in a card", self.text_secondary, chip));
            }
        }
        pairs.push(("primary button", self.on_accent, self.accent));
        pairs.push(("primary button, hovered", self.on_accent, self.accent_hover));
        pairs.push(("chosen chip", self.text, self.row_selected));
        pairs
    }
}

const fn rgb(hex: u32) -> Color32 {
    Color32::from_rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

/// `share` of `over` mixed into `under`, in gamma space as a painter would.
pub fn mix(under: Color32, over: Color32, share: f32) -> Color32 {
    let channel = |u: u8, o: u8| (f32::from(u) + (f32::from(o) - f32::from(u)) * share).round() as u8;
    Color32::from_rgb(channel(under.r(), over.r()), channel(under.g(), over.g()), channel(under.b(), over.b()))
}

pub fn body() -> FontId {
    FontId::new(13.5, FontFamily::Proportional)
}

pub fn medium() -> FontId {
    FontId::new(13.5, fonts::medium())
}

pub fn strong() -> FontId {
    FontId::new(13.5, fonts::semibold())
}

pub fn title() -> FontId {
    FontId::new(16.0, fonts::semibold())
}

pub fn small() -> FontId {
    FontId::new(12.5, FontFamily::Proportional)
}

pub fn small_medium() -> FontId {
    FontId::new(12.5, fonts::medium())
}

pub fn code() -> FontId {
    FontId::new(12.5, FontFamily::Monospace)
}

pub fn code_small() -> FontId {
    FontId::new(11.5, FontFamily::Monospace)
}

/// Sets both themes up; which one is shown is the user's choice.
pub fn install(ctx: &Context) {
    for theme in [Theme::Dark, Theme::Light] {
        ctx.set_style_of(theme, style(theme));
    }
}

fn style(theme: Theme) -> Style {
    let palette = Palette::of(theme);
    let mut style = Style { visuals: visuals(theme, palette), ..Style::default() };
    style.text_styles = [
        (TextStyle::Small, small()),
        (TextStyle::Body, body()),
        (TextStyle::Button, body()),
        (TextStyle::Heading, title()),
        (TextStyle::Monospace, code()),
    ]
    .into();
    style.spacing.item_spacing = vec2(8.0, 6.0);
    style.spacing.button_padding = vec2(10.0, 6.0);
    style.spacing.interact_size.y = CONTROL;
    style.spacing.menu_margin = Margin::same(6);
    style.spacing.scroll = ScrollStyle { bar_width: 8.0, ..ScrollStyle::floating() };
    style.spacing.scroll.fade.strength = 0.0;
    style.scroll_animation = ScrollAnimation::none();
    // Movement would repaint, and a debugger's window has no need of it.
    style.animation_time = 0.0;
    style
}

fn visuals(theme: Theme, palette: &Palette) -> Visuals {
    let mut visuals = match theme {
        Theme::Dark => Visuals::dark(),
        Theme::Light => Visuals::light(),
    };
    visuals.override_text_color = None;
    visuals.weak_text_color = Some(palette.text_weak);
    visuals.hyperlink_color = palette.accent_text;
    visuals.panel_fill = palette.panel;
    visuals.window_fill = palette.popup;
    visuals.window_stroke = Stroke::new(1.0, palette.line_strong);
    visuals.window_corner_radius = CornerRadius::same(10);
    visuals.menu_corner_radius = RADIUS_CARD;
    visuals.extreme_bg_color = palette.canvas;
    visuals.text_edit_bg_color = Some(palette.canvas);
    visuals.code_bg_color = palette.raised;
    visuals.faint_bg_color = palette.row_hover;
    visuals.warn_fg_color = palette.changed;
    visuals.error_fg_color = palette.failed;
    visuals.selection.bg_fill = palette.row_selected;
    visuals.selection.stroke = Stroke::new(1.5, palette.accent_text);
    visuals.popup_shadow = Shadow { offset: [0, 6], blur: 18, spread: 0, color: Color32::from_black_alpha(90) };
    visuals.window_shadow = Shadow { offset: [0, 10], blur: 32, spread: 0, color: Color32::from_black_alpha(110) };
    // A blinking caret repaints twice a second for as long as a field has the focus: 5% of a core without a GPU.
    visuals.text_cursor.blink = false;
    visuals.text_cursor.stroke = Stroke::new(1.5, palette.accent_text);
    visuals.disabled_alpha = 1.0;
    let widgets = &mut visuals.widgets;
    for widget in [
        &mut widgets.noninteractive,
        &mut widgets.inactive,
        &mut widgets.hovered,
        &mut widgets.active,
        &mut widgets.open,
    ] {
        widget.corner_radius = RADIUS;
        widget.expansion = 0.0;
        widget.fg_stroke = Stroke::new(1.0, palette.text);
        widget.bg_stroke = Stroke::new(1.0, palette.line);
        widget.bg_fill = palette.raised;
        widget.weak_bg_fill = palette.raised;
    }
    widgets.inactive.bg_stroke.color = palette.line_strong;
    widgets.hovered.bg_fill = palette.raised_hover;
    widgets.hovered.weak_bg_fill = palette.raised_hover;
    widgets.hovered.bg_stroke.color = palette.line_strong;
    widgets.active.bg_fill = palette.raised_hover;
    widgets.active.weak_bg_fill = palette.raised_hover;
    widgets.active.bg_stroke.color = palette.accent_text;
    widgets.open.bg_stroke.color = palette.line_strong;
    visuals
}

/// The contrast ratio of two opaque colours, from 1 to 21 (WCAG 2.2).
pub fn contrast(a: Color32, b: Color32) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// WCAG 2.2, relative luminance.
fn luminance(colour: Color32) -> f64 {
    let linear = |channel: u8| {
        let c = f64::from(channel) / 255.0;
        if c <= 0.040_45 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * linear(colour.r()) + 0.7152 * linear(colour.g()) + 0.0722 * linear(colour.b())
}

#[cfg(test)]
mod tests {
    use super::{Color32, Palette, contrast};

    #[test]
    fn contrast_is_computed_as_wcag_says() {
        assert!((contrast(Color32::BLACK, Color32::WHITE) - 21.0).abs() < 1e-9);
        assert!((contrast(Color32::from_rgb(0x77, 0x77, 0x77), Color32::WHITE) - 4.48).abs() < 0.01);
    }

    #[test]
    fn every_text_can_be_read_in_both_themes() {
        let mut weak = Vec::new();
        for (theme, palette) in [("dark", Palette::DARK), ("light", Palette::LIGHT)] {
            for (what, text, background) in palette.text_pairs() {
                let ratio = contrast(text, background);
                if ratio < 4.5 {
                    weak.push(format!("{theme}: {what} {text:?} on {background:?}: {ratio:.2}"));
                }
            }
        }
        assert!(weak.is_empty(), "below 4.5:1:\n{}", weak.join("\n"));
    }
}
