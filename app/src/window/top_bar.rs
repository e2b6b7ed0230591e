//! The top bar: which target, how it reloads by itself, reload now, and the switches of the window.

use std::time::SystemTime;

use eframe::egui::{
    Align, Align2, Color32, CursorIcon, Id, Layout, Popup, PopupCloseBehavior, Rect, Role, Sense, Stroke, StrokeKind,
    Theme, Ui, WidgetInfo, pos2, vec2,
};
use reload_engine::{
    discovery::Candidate,
    model::{Connection, Mode},
};

use crate::{
    desktop::Wanted,
    window::{
        action::Action,
        carry_out::path_dialog,
        chooser::{self, Entry},
        controls::{self, Button, Segment, Weight, focus_ring, palette, segmented},
        dialogs::Dialog,
        format, icons,
        scene::{Scene, View},
        target_tab::{Link, TargetTab},
        theme::{self, CONTROL, Palette, RADIUS},
    },
};

pub fn show(ui: &mut Ui, scene: &Scene<'_>, view: &mut View, actions: &mut Vec<Action>) {
    let width = ui.available_width();
    ui.horizontal_centered(|ui| {
        ui.spacing_mut().item_spacing.x = 8.0;
        target_picker(ui, scene, view, actions, if width < 800.0 { 170.0 } else { 220.0 });
        ui.add_space(6.0);
        auto(ui, scene, actions, width);
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let commands = if width < 820.0 {
                Button::icon(icons::COMMANDS, "Commands").weight(Weight::Normal).hint("Commands (Ctrl+K)").show(ui)
            } else {
                Button::new("Commands").key("Ctrl K").show(ui)
            };
            if commands.clicked() {
                actions.push(Action::Dialog(Dialog::Palette(Default::default())));
            }
            let dark = ui.ctx().theme() == Theme::Dark;
            let (icon, name) = if dark { (icons::SUN, "Light theme") } else { (icons::MOON, "Dark theme") };
            if Button::icon(icon, name).show(ui).clicked() {
                actions.push(Action::ToggleTheme);
            }
            let details = Button::icon(icons::DETAILS, "Details").selected(scene.settings.details);
            if details.hint("Show or hide the details (Ctrl+B)").show(ui).clicked() {
                actions.push(Action::ToggleDetails);
            }
            reload_now(ui, scene, actions);
        });
    });
}

fn auto(ui: &mut Ui, scene: &Scene<'_>, actions: &mut Vec<Action>, width: f32) {
    let (all, marked) = if width >= 1000.0 { ("All except skipped", "Marked only") } else { ("All", "Marked") };
    if width >= 760.0 {
        let weak = palette(ui).text_secondary;
        ui.colored_label(weak, "Auto");
    }
    let choices = [
        Segment { value: Mode::Off, label: "Off", name: "Auto: off", key: "Alt+1" },
        Segment { value: Mode::Marked, label: marked, name: "Auto: marked only", key: "Alt+2" },
        Segment { value: Mode::All, label: all, name: "Auto: all except skipped", key: "Alt+3" },
    ];
    let mode = scene.snapshot().map(|snapshot| snapshot.mode);
    if let Some(mode) = segmented(ui, &choices, mode, scene.is_live()) {
        actions.push(Action::SetMode(mode));
    }
}

fn reload_now(ui: &mut Ui, scene: &Scene<'_>, actions: &mut Vec<Action>) {
    let changed = scene.tab().map_or(0, |tab| tab.index().pending);
    let text = if changed > 0 { format!("Reload now  {changed}") } else { "Reload now".to_owned() };
    let name = match changed {
        0 => "Reload now".to_owned(),
        n => format!("Reload now, {n} changed"),
    };
    let button = Button::new(&text).named(&name).with_icon(icons::RELOAD).weight(Weight::Primary);
    let button = button.enabled(scene.is_live()).hint("Reload every changed module except skipped ones (F5)");
    if button.show(ui).clicked() {
        actions.push(Action::ReloadNow);
    }
}

/// Icon, colour and words of a connection.
pub fn connection(palette: &Palette, tab: Option<&TargetTab>) -> (char, Color32, &'static str) {
    let Some(tab) = tab else {
        return (icons::DETACHED, palette.text_weak, "not attached");
    };
    match (&tab.link, &tab.snapshot) {
        (Link::Refused { gone: true, .. }, Some(_)) => (icons::EXITED, palette.text_weak, "exited"),
        (Link::Refused { .. }, _) => (icons::WARNING, palette.failed, "not attached"),
        (Link::Closed, _) => (icons::WARNING, palette.failed, "connection lost"),
        (Link::Opening, _) | (Link::Open(_), None) => (icons::DETACHED, palette.reloading, "attaching"),
        (Link::Open(_), Some(snapshot)) => match &snapshot.connection {
            Connection::Attached => (icons::ATTACHED, palette.current, "attached"),
            Connection::Detached => (icons::DETACHED, palette.changed, "detached"),
            Connection::Exited(_) => (icons::EXITED, palette.text_weak, "exited"),
            Connection::Lost(_) => (icons::WARNING, palette.failed, "connection lost"),
        },
    }
}

fn target_picker(ui: &mut Ui, scene: &Scene<'_>, view: &mut View, actions: &mut Vec<Action>, width: f32) {
    let palette = palette(ui);
    let tab = scene.tab();
    let (icon, colour, state) = connection(palette, tab);
    let title = tab.map_or_else(|| "No target".to_owned(), TargetTab::title);
    let (rect, response) = ui.allocate_exact_size(vec2(width, CONTROL), Sense::click());
    let name = match tab {
        Some(tab) => format!("Target: {}, pid {}, {state}", tab.name, tab.pid),
        None => "Target: none".to_owned(),
    };
    response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, &name));
    let painter = ui.painter();
    let fill = if response.hovered() { palette.raised_hover } else { palette.raised };
    painter.rect(rect, RADIUS, fill, Stroke::new(1.0, palette.line_strong), StrokeKind::Inside);
    focus_ring(painter, rect, RADIUS, &response, palette);
    let middle = rect.center().y;
    painter.text(pos2(rect.left() + 9.0, middle), Align2::LEFT_CENTER, icon, icons::outline(17.0), colour);
    let caret = pos2(rect.right() - 9.0, middle);
    painter.text(caret, Align2::RIGHT_CENTER, icons::DOWN, icons::outline(13.0), palette.text_secondary);
    // Its end tells processes of one name apart.
    let shown = controls::fit_name(painter, &title, &theme::medium(), width - 62.0);
    painter.galley(pos2(rect.left() + 33.0, middle - shown.size().y / 2.0), shown, palette.text);
    let response = response.on_hover_cursor(CursorIcon::PointingHand);
    let response = controls::hint(response, format!("{title}, {state} (Ctrl+T)"));
    if response.clicked() && view.picker.is_none() {
        actions.push(Action::PickTarget);
    }
    let mut open = view.picker.is_some();
    if let Some(chooser) = &mut view.picker {
        let popup = Popup::from_response(&response)
            .open_bool(&mut open)
            .close_behavior(PopupCloseBehavior::CloseOnClickOutside)
            .accessible_name("Targets")
            .width(460.0)
            .gap(6.0);
        popup.show(|ui| {
            ui.set_width(460.0);
            let id = Id::unique("target filter");
            let nothing = "No process matches. Start one with: reload-dashboard run -- COMMAND";
            let max_height = 380.0_f32.min(room_below(ui, rect));
            let entries = targets(scene, &chooser.text, palette, true);
            if let Some(action) =
                chooser::show(ui, chooser, id, "Type a name or a process id", nothing, entries, max_height)
            {
                // Closed first: the action may open a dialog.
                actions.push(Action::CloseDialogs);
                actions.push(action);
            }
        });
    }
    if !open && view.picker.is_some() {
        actions.push(Action::CloseDialogs);
    }
}

fn room_below(ui: &Ui, rect: Rect) -> f32 {
    (ui.ctx().content_rect().bottom() - rect.bottom() - 80.0).max(120.0)
}

/// Open targets first, then what else runs; what cannot be attached only to those who ask for it, with the reason.
/// `with_commands`: also what can be done about targets.
pub fn targets(scene: &Scene<'_>, typed: &str, palette: &Palette, with_commands: bool) -> Vec<Entry<Action>> {
    let mut entries = Vec::new();
    for (position, tab) in scene.tabs.iter().enumerate() {
        if position == scene.active && tab.is_vain() {
            // Whoever types its name now means another process of that name.
            continue;
        }
        let (icon, colour, _) = connection(palette, Some(tab));
        let mut entry = Entry::new(Action::Show(position), icon, tab.title());
        entry.colour = Some(colour);
        entry.detail = tab.snapshot.as_ref().map(|s| s.target.exe.display().to_string()).unwrap_or_default();
        entry.aside = if position == scene.active { "shown".to_owned() } else { "open".to_owned() };
        entries.push(entry);
    }
    if let Some(tab) = scene.tab().filter(|_| with_commands) {
        let connection = tab.snapshot.as_ref().map(|snapshot| &snapshot.connection);
        if tab.is_live() {
            entries.push(Entry::new(Action::Detach, icons::DETACHED, format!("Detach from {}", tab.name)));
        } else if connection == Some(&Connection::Detached) {
            entries.push(Entry::new(Action::Attach, icons::ATTACHED, format!("Attach to {} again", tab.name)));
        }
        entries.push(Entry::new(Action::Close(scene.active), icons::CLOSE, format!("Close {}", tab.name)));
    }
    if with_commands {
        let mut start = Entry::new(path_dialog(Wanted::Program), icons::START, "Start a program");
        "Ctrl+Shift+O".clone_into(&mut start.aside);
        entries.push(start);
    }
    let others = scene.candidates.iter().filter(|candidate| scene.tabs.iter().all(|tab| tab.pid != candidate.pid));
    let (can, cannot): (Vec<&Candidate>, Vec<&Candidate>) = others.partition(|candidate| candidate.attachable.is_ok());
    entries.extend(can.into_iter().map(|candidate| entry(candidate, scene.now)));
    if typed.trim().is_empty() {
        if !cannot.is_empty() {
            let text =
                format!("{} cannot be attached", format::count(cannot.len(), "other process", "other processes"));
            let mut rest = Entry::new(Action::PickTarget, icons::SKIP, text);
            "type a name to see why".clone_into(&mut rest.aside);
            rest.enabled = false;
            entries.push(rest);
        }
    } else {
        entries.extend(cannot.into_iter().map(|candidate| entry(candidate, scene.now)));
    }
    entries
}

fn entry(candidate: &Candidate, now: SystemTime) -> Entry<Action> {
    let label = format!("{} · {}", candidate.name, candidate.pid);
    let mut entry = Entry::new(Action::Open(candidate.pid), icons::TARGET, label);
    match &candidate.attachable {
        Ok(()) => {
            entry.detail = candidate.exe.display().to_string();
            let modules = format::count(candidate.modules, "module", "modules");
            entry.aside = format!("{modules}, {}", format::age(now - candidate.age, now));
        }
        Err(obstacle) => {
            entry.detail = obstacle.to_string();
            entry.enabled = false;
        }
    }
    entry
}
