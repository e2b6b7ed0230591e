//! The tool bar above the table: the filter, the statuses with their counts, and loading a module.

use eframe::egui::{
    Align, Align2, CursorIcon, FontId, Id, Layout, Rect, Response, RichText, Role, Sense, TextEdit, Ui, WidgetInfo,
    vec2,
};

use reload_engine::model::Status;

use crate::{
    desktop::Wanted,
    window::{
        action::Action,
        carry_out::path_dialog,
        controls::{self, Button, filter_chip, palette},
        format, icons,
        rows::STATUSES,
        scene::{Scene, View, filter_id},
        theme::{self, CONTROL},
    },
};

pub fn show(ui: &mut Ui, scene: &Scene<'_>, view: &mut View, actions: &mut Vec<Action>) {
    let Some(tab) = scene.tab() else {
        return;
    };
    let palette = palette(ui);
    let index = tab.index();
    let width = ui.available_width();
    ui.horizontal_centered(|ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        let typed = !view.query.text.is_empty();
        let mut field = TextEdit::singleline(&mut view.query.text)
            .id(filter_id())
            .hint_text("Filter modules")
            .prefix(RichText::new(icons::SEARCH).font(icons::outline(16.0)).color(palette.text_weak))
            .margin(vec2(9.0, 5.0))
            .min_size(vec2(0.0, CONTROL))
            .align(Align2::LEFT_CENTER)
            .desired_width(if width < 700.0 { 130.0 } else { 190.0 });
        if typed {
            // Room for the cross.
            field = field.suffix(RichText::new("  ").font(theme::code()));
        } else if width >= 700.0 {
            field = field.suffix(RichText::new("/").font(theme::code_small()).color(palette.text_weak));
        }
        let field = controls::hint(ui.add(field), "Words that occur in the path (/)");
        controls::name_field(&field, "Filter modules");
        if std::mem::take(&mut view.focus_filter) {
            field.request_focus();
        }
        if typed && clear(ui, &field) {
            actions.push(Action::ClearFilter);
        }
        ui.add_space(6.0);
        let all = format!("All {}", index.total);
        if filter_chip(ui, &format!("All modules, {}", index.total), &all, None, view.query.status.is_none()).clicked()
        {
            actions.push(Action::FilterStatus(None));
        }
        let chosen = view.query.status;
        let present: Vec<(Status, usize)> = STATUSES
            .into_iter()
            .map(|status| (status, index.count(status)))
            .filter(|(status, count)| *count > 0 || chosen == Some(*status))
            .collect();
        // Where not all words fit, the icons of the less urgent ones speak for themselves.
        let at_the_right = if view.query.is_filtered() { 160.0 } else { 40.0 };
        let icons: f32 = present.iter().map(|(_, count)| chip_width(ui, &count.to_string())).sum();
        let mut spare = ui.available_width() - at_the_right - icons;
        for (status, count) in present {
            let selected = chosen == Some(status);
            let word = icons::status_word(status);
            let (icon, family) = icons::status(status);
            let icon = (icon, FontId::new(15.0, family), palette.status(status));
            let (long, short) = (chip_text(status, count), count.to_string());
            let more = chip_width(ui, &long) - chip_width(ui, &short);
            let with_word = more <= spare;
            spare -= if with_word { more } else { spare };
            let text = if with_word { long } else { short };
            let chip = filter_chip(ui, &format!("{word}, {count}"), &text, Some(icon), selected);
            if controls::hint(chip, word).clicked() {
                actions.push(Action::FilterStatus((!selected).then_some(status)));
            }
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let load = Button::icon(icons::ADD, "Load a module").enabled(scene.is_live());
            if load.hint("Load a module into the target (Ctrl+O)").show(ui).clicked() {
                actions.push(path_dialog(Wanted::Library));
            }
            if view.query.is_filtered() && ui.available_width() > 64.0 {
                let shown = format!("{} shown", format::count(index.matching, "module", "modules"));
                let short = format!("{} shown", index.matching);
                let text = if ui.available_width() > 130.0 { shown } else { short };
                ui.label(RichText::new(text).font(theme::small()).color(palette.text_secondary));
            }
        });
    });
}

/// The cross at the end of the field. Not a stop of the Tab key: Esc does the same.
fn clear(ui: &Ui, field: &Response) -> bool {
    let palette = palette(ui);
    let rect = Rect::from_center_size(field.rect.right_center() - vec2(15.0, 0.0), vec2(20.0, 20.0));
    let response = ui.interact(rect, Id::unique("clear filter"), Sense::CLICK);
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, "Clear the filter"));
    let colour = if response.hovered() { palette.text } else { palette.text_secondary };
    ui.painter().text(rect.center(), Align2::CENTER_CENTER, icons::CLOSE, icons::outline(13.0), colour);
    controls::hint(response.on_hover_cursor(CursorIcon::PointingHand), "Clear the filter (Esc)").clicked()
}

fn chip_text(status: Status, count: usize) -> String {
    format!("{} {count}", icons::status_word(status))
}

/// Icon, text, padding and the gap to the next chip.
fn chip_width(ui: &Ui, text: &str) -> f32 {
    controls::layout(ui.painter(), text, theme::medium()).size().x + 20.0 + 22.0 + 6.0
}
