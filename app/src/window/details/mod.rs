//! The details of the selected module: a head with its name and what can be done, and four tabs.

use eframe::egui::{
    Align, Align2, Color32, CornerRadius, CursorIcon, Event, EventFilter, Frame, Id, IdSalt, Key, Layout, Margin,
    Modifiers, PanelState, Popup, PopupCloseBehavior, Rect, RichText, Role, ScrollArea, Sense, Stroke, Ui, UiBuilder,
    WidgetInfo,
    accesskit::{self, ActionData, ActionRequest, TreeId},
    pos2, vec2,
};
use reload_engine::model::{Class, Module, Status};

use crate::window::{
    action::Action,
    controls::{self, Button, Weight, palette, status_chip},
    dialogs::Dialog,
    icons,
    keys::{RESIZE_STEP, can_roll_back},
    scene::{Scene, View},
    theme,
};

mod changes;
mod history;
mod info;
pub mod passage;
mod timeline;
pub mod trace;
mod underway;

/// Around the details, left and right, in points.
pub const MARGIN: f32 = 16.0;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Tab {
    #[default]
    Trace,
    Changes,
    History,
    Info,
}

pub fn show(ui: &mut Ui, scene: &Scene<'_>, view: &mut View, actions: &mut Vec<Action>) {
    let palette = palette(ui);
    let Some(module) = scene.selected(view) else {
        ui.centered_and_justified(|ui| {
            ui.label(RichText::new("Select a module to see what happened to it.").color(palette.text_secondary));
        });
        return;
    };
    if view.details_of.as_ref() != Some(&module.path) {
        // Positions in the history of another module mean nothing here.
        view.details_of = Some(module.path.clone());
        view.history_open = None;
        view.changes_of = None;
    }
    head(ui, scene, module, view, actions);
    ui.add_space(6.0);
    // The scroll bar stands in the margin, beside what it scrolls. Not as a part of the panel, which would grow by it.
    let place = ui.available_rect_before_wrap();
    let beside = MARGIN - 4.0;
    let mut outer = ui.new_child(UiBuilder::new().max_rect(place.with_max_x(place.max.x + beside)));
    let area = ScrollArea::vertical().id_salt(("details", view.tab as u8, &module.path)).auto_shrink([false, false]);
    area.show(&mut outer, |ui| {
        ui.set_max_width(ui.available_width() - beside);
        let by = std::mem::take(&mut view.scroll_details);
        if by != 0.0 {
            ui.scroll_with_delta(vec2(0.0, -by));
        }
        ui.spacing_mut().item_spacing.y = 8.0;
        // Lines of text, not of buttons.
        ui.spacing_mut().interact_size.y = 18.0;
        match view.tab {
            Tab::Trace => trace::show(ui, scene, module, actions),
            Tab::Changes => changes::show(ui, scene, module, view, actions),
            Tab::History => history::show(ui, scene, module, view, actions),
            Tab::Info => info::show(ui, scene, module, actions),
        }
        ui.add_space(8.0);
    });
    ui.advance_cursor_after_rect(place);
}

/// Sizes the panel of this name by what the keys have asked for: anywhere, or where its edge has the focus. Returns the edge's
/// identity. Panels of egui know the pointer, and steps that assistive technology asks for: such steps are made here.
pub fn edge(ui: &Ui, name: &str, at_the_right: bool, view: &mut View) -> Id {
    let panel = ui.scope_id().with_salt(IdSalt::new(name));
    let edge = panel.with("__resize");
    let mut by = std::mem::take(&mut view.resize_details);
    if ui.memory(|memory| memory.has_focus(edge)) {
        let (larger, smaller) =
            if at_the_right { (Key::ArrowLeft, Key::ArrowRight) } else { (Key::ArrowUp, Key::ArrowDown) };
        let pressed = |key| ui.input_mut(|input| input.count_and_consume_key(Modifiers::NONE, key)) as f32;
        by += RESIZE_STEP * (pressed(larger) - pressed(smaller));
        let filter = EventFilter { horizontal_arrows: true, vertical_arrows: true, ..EventFilter::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(edge, filter));
    }
    if by != 0.0
        && let Some(state) = PanelState::load(ui.ctx(), panel)
    {
        let available = ui.available_rect_before_wrap().size();
        let (now, room) = if at_the_right { (state.size().x, available.x) } else { (state.size().y, available.y) };
        let action_data = ActionData::NumericValue(f64::from(((now + by) / room).clamp(0.0, 1.0)));
        let request = ActionRequest {
            action: accesskit::Action::SetValue,
            target_tree: TreeId::ROOT,
            target_node: edge.accesskit_id(),
            data: Some(action_data),
        };
        ui.input_mut(|input| input.events.push(Event::AccessKitActionRequest(request)));
    }
    edge
}

/// Details below the table are wide and low: there name and path share a line, tabs and buttons too. At the right they are
/// never so wide, unless somebody makes them.
fn is_low(ui: &Ui) -> bool {
    ui.available_width() > 560.0
}

fn head(ui: &mut Ui, scene: &Scene<'_>, module: &Module, view: &mut View, actions: &mut Vec<Action>) {
    if is_low(ui) {
        // Where words and tabs do not fit side by side, the icons speak for the words.
        let words = ui.available_width() > 720.0;
        ui.horizontal(|ui| {
            name(ui, module);
            path(ui, module, 120.0, actions);
        });
        ui.horizontal(|ui| {
            tabs(ui, module, view);
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                ui.spacing_mut().item_spacing.x = 6.0;
                buttons(ui, scene, module, actions, (true, words));
            });
        });
    } else {
        name(ui, module);
        ui.horizontal(|ui| path(ui, module, 0.0, actions));
        ui.horizontal_wrapped(|ui| buttons(ui, scene, module, actions, (false, true)));
        ui.add_space(2.0);
        ui.horizontal(|ui| tabs(ui, module, view));
    }
    let y = ui.cursor().top() - ui.spacing().item_spacing.y + 0.5;
    ui.painter().hline(ui.max_rect().x_range(), y, Stroke::new(1.0, palette(ui).line));
}

/// The name at the left, the status at the right edge.
fn name(ui: &mut Ui, module: &Module) {
    let palette = palette(ui);
    let edge = ui.max_rect().right();
    // Measured by painting it where nobody sees it, then flush right.
    let hidden = ui.painter().with_clip_rect(Rect::NOTHING);
    let chip = status_chip(&hidden, palette, pos2(0.0, 0.0), module.status, palette.panel).width();
    let galley = controls::layout(ui.painter(), &module.name, theme::title());
    // Below the table the path follows on the same line.
    let share = if is_low(ui) { 0.6 } else { 1.0 };
    let room = ((ui.available_width() - chip - 12.0) * share).max(60.0);
    let (rect, response) = ui.allocate_exact_size(vec2(galley.size().x.min(room), 26.0), Sense::hover());
    response.widget_info(|| WidgetInfo::labeled(Role::Heading, true, &module.name));
    let at = rect.left_center();
    let shown = controls::fit_name(ui.painter(), &module.name, &theme::title(), rect.width() + 1.0);
    let start = Align2::LEFT_CENTER.anchor_size(at, shown.size()).min;
    ui.painter().galley(start, shown, palette.text);
    status_chip(ui.painter(), palette, pos2(edge - chip, at.y), module.status, palette.panel);
    controls::hint(response, &module.name);
}

/// `chip`: room that is left free at the right edge.
fn path(ui: &mut Ui, module: &Module, chip: f32, actions: &mut Vec<Action>) {
    let palette = palette(ui);
    ui.spacing_mut().item_spacing.x = 4.0;
    let path = module.path.display().to_string();
    let font = theme::code_small();
    let room = (ui.available_width() - 38.0 - chip).max(40.0);
    let shown = controls::fit_path(ui.painter(), &path, &font, room);
    controls::hint(ui.label(RichText::new(shown).font(font).color(palette.text_secondary)), &path);
    if Button::icon(icons::COPY, "Copy path").show(ui).clicked() {
        actions.push(Action::Copy(path));
    }
}

/// `from_right`: laid out from the right edge; `words`: beside the icons.
fn buttons(
    ui: &mut Ui,
    scene: &Scene<'_>,
    module: &Module,
    actions: &mut Vec<Action>,
    (from_right, words): (bool, bool),
) {
    let live = scene.is_live() && module.class != Class::Protected;
    let failed = matches!(module.status, Status::Failed | Status::Refused);
    let again = |ui: &mut Ui, actions: &mut Vec<Action>| {
        let label = if failed { "Try again" } else { "Reload" };
        let button = worded(icons::RELOAD, label, label, words).enabled(live && module.status != Status::Reloading);
        let hint = if failed { "Try again: reload this module (R)" } else { "Reload this module (R)" };
        if button.hint(hint).show(ui).clicked() {
            actions.push(Action::Reload(module.path.clone()));
        }
    };
    // One more button for what was refused: beside the table two of them do without words, to stay on one line.
    let rest = words && (from_right || module.status != Status::Refused);
    let copy = |ui: &mut Ui, actions: &mut Vec<Action>| {
        let copy = worded(icons::COPY, "Copy", "Copy trace", rest).hint("Copy the trace");
        if failed && copy.show(ui).clicked() {
            actions.push(Action::Copy(trace::text(module)));
        }
    };
    let anyway = |ui: &mut Ui, actions: &mut Vec<Action>| {
        let hint = "Reload although it was refused; first it is told what that risks";
        let offered = module.status == Status::Refused && module.failure.as_ref().is_some_and(trace::can_be_forced);
        if offered && Button::new("Reload anyway…").enabled(live).hint(hint).show(ui).clicked() {
            actions.push(Action::Dialog(Dialog::Anyway(module.path.clone())));
        }
    };
    if from_right {
        roll_back(ui, live, module, actions, words);
        copy(ui, actions);
        anyway(ui, actions);
        again(ui, actions);
    } else {
        again(ui, actions);
        anyway(ui, actions);
        copy(ui, actions);
        roll_back(ui, live, module, actions, rest);
    }
}

/// A button with icon and text, or with the icon alone.
fn worded<'a>(icon: char, text: &'a str, name: &'a str, words: bool) -> Button<'a> {
    let button = if words { Button::new(text).with_icon(icon) } else { Button::icon(icon, name) };
    button.named(name).weight(Weight::Normal)
}

/// Roll back: one press opens the earlier generations, newest first.
fn roll_back(ui: &mut Ui, live: bool, module: &Module, actions: &mut Vec<Action>, words: bool) {
    let enabled = live && can_roll_back(module);
    let button = worded(icons::ROLLBACK, "Roll back", "Roll back", words).enabled(enabled);
    let hint = if enabled { "To an earlier generation (Z: the one before)" } else { "There is no earlier generation" };
    let response = button.hint(hint).show(ui);
    if !enabled {
        return;
    }
    let popup = Popup::menu(&response).close_behavior(PopupCloseBehavior::CloseOnClick).accessible_name("Generations");
    popup.gap(4.0).show(|ui| {
        ui.set_min_width(190.0);
        let earlier = module.generations.iter().rev().filter(|generation| **generation < module.generation);
        for (position, generation) in earlier.enumerate() {
            let text = if generation.0 == 0 {
                "Generation 0, as loaded".to_owned()
            } else if position == 0 {
                format!("Generation {generation}, the one before")
            } else {
                format!("Generation {generation}")
            };
            if controls::menu_line(ui, &text, "", true) {
                actions.push(Action::Rollback(module.path.clone(), Some(*generation)));
            }
        }
    });
}

fn tabs(ui: &mut Ui, module: &Module, view: &mut View) {
    let palette = palette(ui);
    let trace = module.failure.as_ref().map_or(0, |failure| trace::causes(failure).len());
    let tabs = [
        (Tab::Trace, "Trace", trace, "Ctrl+1"),
        (Tab::Changes, "Changes", 0, "Ctrl+2"),
        (Tab::History, "History", module.history.len(), "Ctrl+3"),
        (Tab::Info, "Info", 0, "Ctrl+4"),
    ];
    ui.scope(|ui| {
        ui.spacing_mut().item_spacing.x = 4.0;
        for (tab, title, count, key) in tabs {
            let selected = view.tab == tab;
            let text = controls::layout(ui.painter(), title, theme::medium());
            let count = (count > 0).then(|| controls::layout(ui.painter(), &count.to_string(), theme::small()));
            let count_width = count.as_ref().map_or(0.0, |count| count.size().x + 6.0);
            let (rect, response) =
                ui.allocate_exact_size(vec2(text.size().x + count_width + 20.0, 32.0), Sense::click());
            response.widget_info(|| WidgetInfo::labeled(Role::Tab, true, title));
            ui.ctx().accesskit_node_builder(response.id, |node| node.set_selected(selected));
            let colour = if selected || response.hovered() { palette.text } else { palette.text_secondary };
            let painter = ui.painter();
            let left = rect.left() + 10.0;
            let after = left + text.size().x + 6.0;
            painter.galley(pos2(left, rect.center().y - text.size().y / 2.0), text, colour);
            if let Some(count) = count {
                painter.galley(pos2(after, rect.center().y - count.size().y / 2.0), count, palette.text_weak);
            }
            if selected {
                let line = Rect::from_min_max(pos2(rect.left() + 8.0, rect.bottom() - 2.0), rect.max - vec2(8.0, 0.0));
                painter.rect_filled(line, CornerRadius::same(1), palette.accent_text);
            }
            controls::focus_ring(painter, rect, theme::RADIUS, &response, palette);
            let response = controls::hint(response, format!("{title} ({key})"));
            if response.on_hover_cursor(CursorIcon::PointingHand).clicked() {
                view.tab = tab;
            }
        }
    });
}

/// A box with a frame around.
fn card(ui: &mut Ui, fill: Color32, stroke: Color32, content: impl FnOnce(&mut Ui)) {
    let frame = Frame::NONE.fill(fill).stroke(Stroke::new(1.0, stroke)).corner_radius(theme::RADIUS_CARD);
    frame.inner_margin(Margin::symmetric(12, 10)).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.spacing_mut().item_spacing.y = 5.0;
        content(ui);
    });
}

/// A quiet sentence where a tab has nothing to show.
fn nothing(ui: &mut Ui, title: &str, text: &str) {
    let palette = palette(ui);
    ui.add_space(4.0);
    ui.label(RichText::new(title).font(theme::strong()).color(palette.text));
    ui.label(RichText::new(text).color(palette.text_secondary));
}

/// A heading with a number behind it.
fn heading(ui: &mut Ui, title: &str, count: Option<usize>) {
    let palette = palette(ui);
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        ui.label(RichText::new(title).font(theme::small_medium()).color(palette.text_secondary));
        if let Some(count) = count {
            ui.label(RichText::new(count.to_string()).font(theme::small()).color(palette.text_weak));
        }
    });
}

/// Label at the left, value beside it, wrapped.
fn pair(ui: &mut Ui, label: &str, value: RichText) {
    let palette = palette(ui);
    ui.with_layout(Layout::left_to_right(Align::Min), |ui| {
        ui.allocate_ui_with_layout(vec2(118.0, 18.0), Layout::left_to_right(Align::Min), |ui| {
            ui.set_min_width(118.0);
            ui.label(RichText::new(label).color(palette.text_weak));
        });
        ui.vertical(|ui| ui.label(value));
    });
}
