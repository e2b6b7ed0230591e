//! The keyboard: one table of shortcuts, read by the keys themselves, by the help and by the palette.

use eframe::egui::{Event, EventFilter, Key, KeyboardShortcut, Modifiers, Ui, text_selection::LabelSelectionState};
use reload_engine::model::{Mark, Mode};

use crate::{
    desktop::Wanted,
    window::{
        action::Action,
        carry_out::path_dialog,
        details::Tab,
        dialogs::{Dialog, report_name},
        path_dialog::PathField,
        scene::{Scene, View, filter_id, table_id, toggled},
    },
};

/// Keys and what they do, for the help.
pub const HELP: &[(&str, &[(&str, &str)])] = &[
    (
        "Reload",
        &[
            ("F5  Ctrl+R", "Reload every changed module now"),
            ("R", "Reload the selected module"),
            ("Z", "Roll the selected module back"),
            ("Alt+1 2 3", "Auto: off, marked, all"),
            ("Ctrl+O", "Load a module into the target"),
            ("Ctrl+Shift+O", "Start a program as a target"),
        ],
    ),
    (
        "Modules",
        &[
            ("↑ ↓  Page  Home  End", "Move the selection"),
            ("Space", "Mark or unmark"),
            ("S", "Skip or stop skipping"),
            ("/  Ctrl+F", "Filter"),
            ("Esc", "Clear the filter, close a dialog"),
            ("Ctrl+C", "Copy the path of the selected module"),
        ],
    ),
    (
        "Window",
        &[
            ("Ctrl+K", "Commands, modules and targets"),
            ("Ctrl+T", "Choose a target"),
            ("Ctrl+PageUp  PageDown", "Previous, next target"),
            ("Ctrl+W", "Close the shown target; it runs on"),
            ("Ctrl+B", "Show or hide the details"),
            ("Ctrl+Shift+Arrows", "Make the details larger or smaller"),
            ("Ctrl+1 2 3 4", "Trace, changes, history, info"),
            ("Shift+↑ ↓  Page", "Scroll the details"),
            ("Ctrl+E", "Export a report"),
            ("?", "This help"),
        ],
    ),
];

const CTRL: Modifiers = Modifiers::COMMAND;
/// How many points the details grow at one press.
pub const RESIZE_STEP: f32 = 24.0;

/// What the keys pressed since the last frame ask for.
pub fn actions(ui: &Ui, scene: &Scene<'_>, view: &View) -> Vec<Action> {
    let mut actions = Vec::new();
    let pressed = |modifiers: Modifiers, key: Key| {
        ui.input_mut(|input| input.consume_shortcut(&KeyboardShortcut::new(modifiers, key)))
    };
    let dialog_open = view.dialog.is_some() || view.picker.is_some();
    if dialog_open {
        if pressed(Modifiers::NONE, Key::Escape) {
            actions.push(Action::CloseDialogs);
        }
        return actions;
    }

    let live = scene.is_live();
    if (pressed(Modifiers::NONE, Key::F5) || pressed(CTRL, Key::R)) && live {
        actions.push(Action::ReloadNow);
    }
    for (key, mode) in [(Key::Num1, Mode::Off), (Key::Num2, Mode::Marked), (Key::Num3, Mode::All)] {
        if pressed(Modifiers::ALT, key) && live {
            actions.push(Action::SetMode(mode));
        }
    }
    if pressed(CTRL, Key::K) {
        actions.push(Action::Dialog(Dialog::Palette(Default::default())));
    }
    if pressed(CTRL, Key::T) {
        actions.push(Action::PickTarget);
    }
    // The one with more modifiers first: the other would take its key.
    if pressed(CTRL | Modifiers::SHIFT, Key::O) {
        actions.push(path_dialog(Wanted::Program));
    }
    if pressed(CTRL, Key::O) && live {
        actions.push(path_dialog(Wanted::Library));
    }
    if pressed(CTRL, Key::E) && scene.snapshot().is_some() {
        let name = report_name(scene.snapshot());
        actions.push(Action::Dialog(Dialog::Path(PathField::with(Wanted::Report, name))));
    }
    if pressed(CTRL, Key::W) && scene.tab().is_some() {
        actions.push(Action::Close(scene.active));
    }
    for (key, steps) in [(Key::PageUp, -1), (Key::PageDown, 1)] {
        if pressed(CTRL, key) && scene.tabs.len() > 1 {
            actions.push(Action::ShowNext(steps));
        }
    }
    for (key, tab) in
        [(Key::Num1, Tab::Trace), (Key::Num2, Tab::Changes), (Key::Num3, Tab::History), (Key::Num4, Tab::Info)]
    {
        if pressed(CTRL, key) {
            actions.push(Action::ShowDetails(tab));
        }
    }
    if pressed(CTRL, Key::B) {
        actions.push(Action::ToggleDetails);
    }
    // They lie at the right or below: towards the middle of the window they grow.
    let towards = |key| ui.input_mut(|input| input.count_and_consume_key(CTRL | Modifiers::SHIFT, key)) as f32;
    let steps = towards(Key::ArrowLeft) + towards(Key::ArrowUp) - towards(Key::ArrowRight) - towards(Key::ArrowDown);
    if steps != 0.0 {
        actions.push(Action::ResizeDetails(RESIZE_STEP * steps));
    }
    if pressed(CTRL, Key::F) {
        actions.push(Action::FocusFilter);
    }
    if pressed(Modifiers::NONE, Key::Escape) {
        actions.push(if scene.tab().is_some_and(|tab| tab.notice.is_some()) {
            Action::DismissNotice
        } else {
            Action::ClearFilter
        });
    }
    if ui.memory(|memory| memory.has_focus(filter_id())) {
        // From the field straight into the list.
        if pressed(Modifiers::NONE, Key::ArrowDown) || pressed(Modifiers::NONE, Key::Enter) {
            ui.memory_mut(|memory| memory.request_focus(table_id()));
            // A selected row that the filter hides gives way to the first one shown.
            actions.push(Action::Move(0));
        }
        return actions;
    }
    if ui.ctx().text_edit_focused() {
        return actions;
    }
    let asked_for_help = ui.input_mut(|input| {
        let typed = input.events.iter().any(|event| matches!(event, Event::Text(text) if text == "?"));
        if typed {
            input.consume_key(Modifiers::NONE, Key::Questionmark);
            input.consume_key(Modifiers::SHIFT, Key::Slash);
        }
        typed
    });
    if asked_for_help {
        actions.push(Action::Dialog(Dialog::Help));
        return actions;
    }
    let slash = ui.input_mut(|input| {
        let typed = input.events.iter().any(|event| matches!(event, Event::Text(text) if text == "/"))
            | input.consume_key(Modifiers::NONE, Key::Slash);
        // The field that gets the focus now must not receive the key that led there.
        input.events.retain(|event| !matches!(event, Event::Text(text) if text == "/"));
        typed
    });
    if slash {
        actions.push(Action::FocusFilter);
        return actions;
    }
    in_table(ui, scene, view, &mut actions);
    actions
}

/// Keys that work on the selected row, unless another control has the focus and wants them.
fn in_table(ui: &Ui, scene: &Scene<'_>, view: &View, actions: &mut Vec<Action>) {
    let focused = ui.memory(|memory| memory.focused());
    let own = focused.is_none() || focused == Some(table_id());
    if focused == Some(table_id()) {
        let filter = EventFilter { vertical_arrows: true, ..EventFilter::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(table_id(), filter));
    }
    let with =
        |modifiers: Modifiers, key: Key| ui.input_mut(|input| input.count_and_consume_key(modifiers, key)) as isize;
    if own {
        // Before the same keys without Shift, which would take these too.
        let shifted = |key| with(Modifiers::SHIFT, key) as f32;
        let lines = shifted(Key::ArrowDown) - shifted(Key::ArrowUp);
        let pages = shifted(Key::PageDown) - shifted(Key::PageUp);
        if lines != 0.0 || pages != 0.0 {
            actions.push(Action::ScrollDetails(48.0 * lines + 240.0 * pages));
        }
    }
    let pressed = |key: Key| with(Modifiers::NONE, key);
    if own {
        let page = view.page.max(1) as isize;
        let rows =
            pressed(Key::ArrowDown) - pressed(Key::ArrowUp) + page * (pressed(Key::PageDown) - pressed(Key::PageUp));
        if rows != 0 {
            actions.push(Action::Move(rows));
        }
        if pressed(Key::Home) > 0 {
            actions.push(Action::First);
        }
        if pressed(Key::End) > 0 {
            actions.push(Action::Last);
        }
    }
    let Some(module) = scene.selected(view) else {
        return;
    };
    let path = || module.path.clone();
    let copies = ui.input(|input| input.events.contains(&Event::Copy));
    // Text that is marked in a label is what is meant, if there is any.
    if own && copies && !is_text_marked(ui) {
        actions.push(Action::Copy(module.path.display().to_string()));
    }
    if !scene.is_live() {
        return;
    }
    if own && pressed(Key::Space) > 0 {
        actions.push(Action::Mark(path(), toggled(module.mark, Mark::Reload)));
    }
    if pressed(Key::R) > 0 {
        actions.push(Action::Reload(path()));
    }
    if pressed(Key::S) > 0 {
        actions.push(Action::Mark(path(), toggled(module.mark, Mark::Skip)));
    }
    if pressed(Key::Z) > 0 && can_roll_back(module) {
        actions.push(Action::Rollback(path(), None));
    }
}

fn is_text_marked(ui: &Ui) -> bool {
    ui.ctx().plugin_opt::<LabelSelectionState>().is_some_and(|state| state.lock().has_selection())
}

/// Whether there is a generation before the active one.
pub fn can_roll_back(module: &reload_engine::model::Module) -> bool {
    module.generations.iter().any(|generation| *generation < module.generation)
}
