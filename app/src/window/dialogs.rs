//! Dialogs above the window: the command palette, what asks for a path, the help.

use std::path::{Path, PathBuf};

use eframe::egui::{
    Align, Align2, Area, Color32, Frame, Grid, Id, Layout, Margin, Modal, RichText, ScrollArea, Stroke,
    ThemePreference, Ui, vec2,
};
use reload_engine::model::{Connection, Failure, Mark, Mode, Module, Snapshot, Status};

use crate::{
    desktop::Wanted,
    window::{
        action::Action,
        carry_out::path_dialog,
        chooser::{self, Chooser, Entry},
        controls::{Button, Weight, palette},
        details::{passage, trace},
        icons,
        keys::{self, can_roll_back},
        path_dialog::{self, PathField},
        scene::{Scene, View, toggled},
        theme::{self, Palette},
        top_bar,
    },
};

/// How many modules the palette lists.
const MOST_MODULES: usize = 100;

#[derive(Clone, Debug, PartialEq)]
pub enum Dialog {
    Palette(Chooser),
    Path(PathField),
    /// What is risked by reloading the module at this path although that was refused.
    Anyway(PathBuf),
    Help,
}

pub fn show(ui: &mut Ui, scene: &Scene<'_>, view: &mut View, actions: &mut Vec<Action>) {
    let Some(mut dialog) = view.dialog.take() else {
        return;
    };
    let (id, width) = match dialog {
        Dialog::Palette(_) => ("palette", 560.0),
        Dialog::Path(_) => ("path", 520.0),
        Dialog::Anyway(_) => ("anyway", 560.0),
        Dialog::Help => ("help", 880.0),
    };
    let palette = palette(ui);
    let screen = ui.ctx().content_rect();
    let width = f32::min(width, screen.width() - 48.0);
    let area: Area = Modal::default_area(Id::unique(("dialog", id)));
    let area = area.anchor(Align2::CENTER_TOP, vec2(0.0, distance_from_top(screen.height())));
    let frame = Frame::popup(ui.style())
        .fill(palette.popup)
        .stroke(Stroke::new(1.0, palette.line_strong))
        .corner_radius(10)
        .inner_margin(Margin::same(if matches!(dialog, Dialog::Palette(_)) { 10 } else { 18 }));
    let modal =
        Modal::new(Id::unique(("dialog", id))).area(area).frame(frame).backdrop_color(Color32::from_black_alpha(110));
    let response = modal.show(ui.ctx(), |ui| {
        ui.set_width(width);
        match &mut dialog {
            Dialog::Palette(chooser) => show_palette(ui, scene, view, chooser, actions),
            Dialog::Path(field) => path_dialog::show(ui, field, actions),
            Dialog::Anyway(path) => show_anyway(ui, scene, path, actions),
            Dialog::Help => show_help(ui, actions),
        }
    });
    let outside = response.backdrop_response.clicked();
    view.dialog = Some(dialog);
    if outside {
        actions.push(Action::CloseDialogs);
    }
}

fn distance_from_top(height: f32) -> f32 {
    (height * 0.14).min(110.0)
}

fn show_palette(ui: &mut Ui, scene: &Scene<'_>, view: &View, chooser: &mut Chooser, actions: &mut Vec<Action>) {
    let mut entries: Vec<Entry<Action>> =
        commands(scene, view).into_iter().map(|entry| entry.in_group("Commands")).collect();
    entries.extend(modules(scene, &chooser.text, palette(ui)).into_iter().map(|entry| entry.in_group("Modules")));
    let targets = top_bar::targets(scene, &chooser.text, palette(ui), false);
    entries.extend(targets.into_iter().map(|entry| entry.in_group("Targets")));
    let height = (ui.ctx().content_rect().height() * 0.6).min(440.0);
    let hint = "Type a command, a module or a target";
    let id = Id::unique("palette filter");
    if let Some(action) = chooser::show(ui, chooser, id, hint, "Nothing is called that.", entries, height) {
        // Closed first: the action may open the next dialog.
        actions.push(Action::CloseDialogs);
        actions.push(action);
    }
}

/// The modules that answer best what is typed. Not all of them: there may be thousands, and a list so long is read by nobody.
fn modules(scene: &Scene<'_>, typed: &str, palette: &Palette) -> Vec<Entry<Action>> {
    let all = scene.snapshot().map(|snapshot| snapshot.modules.as_slice()).unwrap_or_default();
    let ranked = |module: &Module| chooser::rank(typed, &module.name, &module.path.to_string_lossy());
    let mut found: Vec<(u32, &Module)> = if typed.trim().is_empty() {
        all.iter().take(MOST_MODULES + 1).map(|module| (0, module)).collect()
    } else {
        all.iter().filter_map(|module| Some((ranked(module)?, module))).collect()
    };
    found.sort_by_key(|(rank, _)| *rank);
    let entry = |module: &Module| {
        let (icon, _) = icons::status(module.status);
        let mut entry = Entry::new(Action::Select(module.path.clone()), icon, module.name.clone());
        entry.colour = Some(palette.status(module.status));
        entry.detail = module.path.display().to_string();
        entry.aside = icons::status_word(module.status).to_owned();
        entry
    };
    let mut entries: Vec<Entry<Action>> = found.iter().take(MOST_MODULES).map(|(_, module)| entry(module)).collect();
    if found.len() > MOST_MODULES {
        let mut rest = Entry::new(Action::FocusFilter, icons::SEARCH, "More modules: filter the table");
        // Whatever is typed, this is one of the answers.
        rest.detail = typed.to_owned();
        "/".clone_into(&mut rest.aside);
        entries.push(rest);
    }
    entries
}

/// Every command, with its key. What cannot be done now is listed and cannot be chosen.
fn commands(scene: &Scene<'_>, view: &View) -> Vec<Entry<Action>> {
    let live = scene.is_live();
    let mut entries = Vec::new();
    let mut add = |action: Action, icon: char, label: String, key: &str, enabled: bool| {
        let mut entry = Entry::new(action, icon, label);
        key.clone_into(&mut entry.aside);
        entry.enabled = enabled;
        entries.push(entry);
    };
    add(Action::ReloadNow, icons::RELOAD, "Reload now".to_owned(), "F5", live);
    if scene.tab().and_then(|tab| tab.doing.as_ref()).is_some_and(|doing| doing.can_be_cancelled()) {
        add(Action::Cancel, icons::CLOSE, "Cancel the reload".to_owned(), "", live);
    }
    if let Some(module) = scene.selected(view) {
        let (path, name) = (module.path.clone(), &module.name);
        add(Action::Reload(path.clone()), icons::RELOADING, format!("Reload {name}"), "R", live);
        if module.status == Status::Refused {
            let ask = Action::Dialog(Dialog::Anyway(path.clone()));
            add(ask, icons::REFUSED, format!("Reload {name} anyway…"), "", live);
        }
        let verb = if module.mark == Mark::Reload { "Unmark" } else { "Mark" };
        let mark = Action::Mark(path.clone(), toggled(module.mark, Mark::Reload));
        add(mark, icons::MARK, format!("{verb} {name}"), "Space", live);
        let verb = if module.mark == Mark::Skip { "Stop skipping" } else { "Skip" };
        let skip = Action::Mark(path.clone(), toggled(module.mark, Mark::Skip));
        add(skip, icons::SKIP, format!("{verb} {name}"), "S", live);
        let back = live && can_roll_back(module);
        add(Action::Rollback(path, None), icons::ROLLBACK, format!("Roll back {name}"), "Z", back);
    }
    for (mode, label, key) in [
        (Mode::Off, "Auto: off", "Alt+1"),
        (Mode::Marked, "Auto: marked only", "Alt+2"),
        (Mode::All, "Auto: all except skipped", "Alt+3"),
    ] {
        let chosen = scene.snapshot().is_some_and(|snapshot| snapshot.mode == mode);
        let icon = if chosen { icons::CHECK } else { icons::RELOADING };
        add(Action::SetMode(mode), icon, label.to_owned(), key, live);
    }
    add(path_dialog(Wanted::Library), icons::ADD, "Load a module".to_owned(), "Ctrl+O", live);
    add(path_dialog(Wanted::Program), icons::START, "Start a program".to_owned(), "Ctrl+Shift+O", true);
    let snapshot = scene.snapshot();
    let report = Action::Dialog(Dialog::Path(PathField::with(Wanted::Report, report_name(snapshot))));
    add(report, icons::EXPORT, "Export a report".to_owned(), "Ctrl+E", snapshot.is_some());
    add(Action::FocusFilter, icons::SEARCH, "Filter modules".to_owned(), "/", scene.tab().is_some());
    add(Action::PickTarget, icons::TARGET, "Choose a target".to_owned(), "Ctrl+T", true);
    add(Action::ToggleDetails, icons::DETAILS, "Show or hide the details".to_owned(), "Ctrl+B", true);
    add(Action::ToggleSystem, icons::EMPTY, "Show or hide system modules".to_owned(), "", scene.tab().is_some());
    let rows = if scene.settings.compact { "Comfortable rows" } else { "Compact rows" };
    add(Action::ToggleCompact, icons::COMPACT, rows.to_owned(), "", true);
    add(Action::ResetWidths, icons::COLUMNS, "Usual column widths".to_owned(), "", !scene.settings.widths.is_empty());
    if scene.tabs.len() > 1 {
        add(Action::ShowNext(1), icons::RIGHT, "Next target".to_owned(), "Ctrl+PageDown", true);
    }
    if let Some(tab) = scene.tab() {
        let connection = tab.snapshot.as_ref().map(|snapshot| &snapshot.connection);
        if live {
            add(Action::Detach, icons::DETACHED, format!("Detach from {}", tab.title()), "", true);
        } else if connection == Some(&Connection::Detached) {
            add(Action::Attach, icons::ATTACHED, format!("Attach to {} again", tab.title()), "", true);
        }
        add(Action::Close(scene.active), icons::CLOSE, format!("Close {}", tab.title()), "Ctrl+W", true);
    }
    add(
        Action::EditConfig,
        icons::SETTINGS,
        "Edit reload-dashboard.toml".to_owned(),
        "",
        !scene.file.path.as_os_str().is_empty(),
    );
    add(Action::SetTheme(ThemePreference::Dark), icons::MOON, "Dark theme".to_owned(), "", true);
    add(Action::SetTheme(ThemePreference::Light), icons::SUN, "Light theme".to_owned(), "", true);
    add(Action::SetTheme(ThemePreference::System), icons::SUN, "Theme of the desktop".to_owned(), "", true);
    add(Action::Dialog(Dialog::Help), icons::HELP, "Keyboard shortcuts".to_owned(), "?", true);
    entries
}

/// What a report is called where the user does not say.
pub fn report_name(snapshot: Option<&Snapshot>) -> String {
    let name = snapshot.map_or("target", |snapshot| snapshot.target.name.as_str());
    format!("reload-report-{}.md", name.replace('/', "_"))
}

fn show_anyway(ui: &mut Ui, scene: &Scene<'_>, path: &Path, actions: &mut Vec<Action>) {
    let palette = palette(ui);
    let modules = scene.snapshot().map(|snapshot| snapshot.modules.as_slice()).unwrap_or_default();
    let module = modules.iter().find(|module| module.path == path && module.status == Status::Refused);
    // Reloaded meanwhile, or the file has changed: there is nothing left to override.
    let Some((module, failure)) = module.and_then(|module| Some((module, module.failure.as_ref()?))) else {
        actions.push(Action::CloseDialogs);
        return;
    };
    ui.label(RichText::new(format!("Reload {} anyway?", module.name)).font(theme::title()));
    let text = "It was refused because this could not be proven safe. What cannot be carried over starts anew, with a \
                warning for each; the program may go on with wrong values, or crash.";
    ui.label(RichText::new(text).color(palette.text_secondary));
    ui.add_space(4.0);
    let reasons = reasons(failure, &module.name);
    ScrollArea::vertical().max_height(260.0).show(ui, |ui| {
        // Lines of text, not of buttons.
        ui.spacing_mut().interact_size.y = 18.0;
        for reason in &reasons {
            trace::point(ui, icons::REFUSED, palette.failed, |ui| {
                passage::show(ui, reason, palette.text, &module.path, actions);
            });
        }
    });
    ui.add_space(4.0);
    let row = vec2(ui.available_width(), theme::CONTROL);
    ui.allocate_ui_with_layout(row, Layout::right_to_left(Align::Center), |ui| {
        let anyway = Button::new("Reload anyway").with_icon(icons::REFUSED).enabled(scene.is_live());
        if anyway.show(ui).clicked() {
            actions.push(Action::CloseDialogs);
            actions.push(Action::ReloadAnyway(module.path.clone()));
        }
        if Button::new("Leave it").weight(Weight::Primary).show(ui).clicked() {
            actions.push(Action::CloseDialogs);
        }
    });
}

/// Why it was refused, one by one: the trace without what runs on and what to do, which end it.
fn reasons(failure: &Failure, module: &str) -> Vec<String> {
    let lines = &failure.trace[..failure.trace.len().saturating_sub(2)];
    let prefix = format!("{module}: ");
    let plain = |line: &String| line.strip_prefix(&prefix).unwrap_or(line).to_owned();
    if lines.is_empty() { vec![plain(&failure.message)] } else { lines.iter().map(plain).collect() }
}

fn show_help(ui: &mut Ui, actions: &mut Vec<Action>) {
    ui.horizontal(|ui| {
        ui.label(RichText::new("Keyboard shortcuts").font(theme::title()));
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            if Button::icon(icons::CLOSE, "Close").show(ui).clicked() {
                actions.push(Action::CloseDialogs);
            }
        });
    });
    ui.spacing_mut().interact_size.y = 18.0;
    let screen = ui.ctx().content_rect().height();
    let room = (screen - distance_from_top(screen) - 110.0).max(120.0);
    let beside = ui.available_width() > 760.0;
    ScrollArea::vertical().min_scrolled_height(room).max_height(room).auto_shrink([false, true]).show(ui, |ui| {
        if beside {
            // What is done with modules at the left, what with the window at the right.
            let (left, right) = keys::HELP.split_at(keys::HELP.len() - 1);
            ui.columns_const(|[one, other]| {
                one.with_layout(Layout::top_down(Align::Min), |ui| left.iter().for_each(|group| help_group(ui, group)));
                other.with_layout(Layout::top_down(Align::Min), |ui| {
                    right.iter().for_each(|group| help_group(ui, group));
                });
            });
        } else {
            keys::HELP.iter().for_each(|group| help_group(ui, group));
        }
    });
}

fn help_group(ui: &mut Ui, (title, keys): &(&str, &[(&str, &str)])) {
    let palette = palette(ui);
    ui.add_space(6.0);
    ui.label(RichText::new(*title).font(theme::small_medium()).color(palette.text_weak));
    Grid::new(*title).num_columns(2).min_col_width(165.0).spacing(vec2(12.0, 4.0)).show(ui, |ui| {
        for (key, what) in *keys {
            ui.label(RichText::new(*key).font(theme::code()).color(palette.accent_text));
            ui.label(*what);
            ui.end_row();
        }
    });
}
