//! What each action does: orders to sessions, requests to the worker, changes of the view.

use std::path::{Path, PathBuf};

use eframe::egui::{Context, Theme, ThemePreference};
use reload_engine::{
    model::{Mark, Mode},
    session::Command,
};

use crate::{
    config::{self, Change},
    desktop::Wanted,
    sources::Place,
    window::{
        action::Action,
        dashboard::Dashboard,
        dialogs::Dialog,
        report,
        rows::Row,
        scene::table_id,
        table,
        target_tab::{Link, TargetTab},
        toasts::{self, Toast},
    },
    worker::Request,
};

impl Dashboard {
    pub fn order(&mut self, command: Command) {
        if let Some(tab) = self.tabs.get_mut(self.active) {
            tab.order(command);
        }
    }

    pub fn apply(&mut self, context: &Context, action: Action) {
        match action {
            Action::ReloadNow => self.order(Command::Reload { modules: Vec::new(), force: false }),
            Action::Reload(path) => self.order(Command::Reload { modules: vec![name(path)], force: false }),
            Action::ReloadAnyway(path) => self.order(Command::Reload { modules: vec![name(path)], force: true }),
            Action::Cancel => {
                if let Some(tab) = self.tabs.get(self.active) {
                    tab.cancel();
                }
            }
            Action::SetMode(mode) => self.set_mode(mode),
            Action::Mark(path, mark) => self.mark(path, mark),
            Action::Rollback(path, generation) => {
                let generation = generation.map(|generation| generation.0);
                self.order(Command::Rollback { module: name(path), generation });
            }
            Action::Load(path) => {
                self.order(Command::Load(path));
                self.view.dialog = None;
            }
            Action::Detach => self.order(Command::Detach),
            Action::Attach => self.order(Command::Attach),
            Action::Open(pid) => self.open(pid),
            Action::Launch(command) => self.launch(command),
            Action::Retry => {
                if let Some(tab) = self.tabs.get_mut(self.active) {
                    tab.link = Link::Opening;
                    let request = match tab.pid {
                        // Its program has never run.
                        0 => Request::Launch { command: tab.command.clone() },
                        pid => Request::Open { pid },
                    };
                    self.ask(request);
                }
            }
            Action::Show(position) => self.show_tab(position),
            Action::ShowNext(steps) => {
                let count = self.tabs.len().max(1) as isize;
                self.show_tab((self.active as isize + steps).rem_euclid(count) as usize);
            }
            Action::Close(position) => self.close(position),
            Action::Follow(processes) => {
                let shown = self.active;
                let name = self.tabs.get(shown).map(|tab| tab.name.clone()).unwrap_or_default();
                for pid in processes {
                    self.open(pid);
                    // Until it tells its own: it runs the same program.
                    if let Some(tab) = self.tabs.get_mut(self.active).filter(|tab| tab.snapshot.is_none()) {
                        tab.name.clone_from(&name);
                    }
                }
                self.show_tab(shown);
                self.apply(context, Action::DismissForks);
            }
            Action::DismissForks => {
                if let Some(tab) = self.tabs.get_mut(self.active) {
                    tab.forked.clear();
                }
            }
            Action::ListTargets => self.ask(Request::List),
            Action::Pick(wanted) => {
                if let Some(Dialog::Path(field)) = &mut self.view.dialog {
                    field.picking = true;
                    self.ask(Request::Pick(wanted));
                }
            }
            Action::Edit(place, module) => self.edit(place, module),
            Action::EditConfig => {
                let file = self.file.path.clone();
                self.edit(Place::Line { file: file.clone(), line: 1 }, file);
            }
            Action::Export(path) => {
                if let Some(tab) = self.tabs.get(self.active)
                    && let Some(snapshot) = &tab.snapshot
                {
                    self.ask(Request::Export { path, text: report::markdown(snapshot, self.now) });
                }
            }
            Action::Copy(text) => context.copy_text(text),
            Action::DismissNotice => {
                if let Some(tab) = self.tabs.get_mut(self.active) {
                    tab.notice = None;
                }
            }
            Action::TryAgain => {
                let notice = self.tabs.get_mut(self.active).and_then(|tab| tab.notice.take());
                if let Some(command) = notice.and_then(|notice| notice.again) {
                    self.order(command);
                }
            }
            Action::DismissToast(position) => {
                if position < self.toasts.len() {
                    self.toasts.remove(position);
                }
            }
            action => self.apply_to_view(context, action),
        }
    }

    /// Actions that touch nothing but what is shown.
    fn apply_to_view(&mut self, context: &Context, action: Action) {
        let view = &mut self.view;
        match action {
            Action::Select(path) => {
                view.choose(Some(path));
                context.memory_mut(|memory| memory.request_focus(table_id()));
            }
            Action::Move(rows) => self.move_selection(rows),
            Action::First => self.move_selection(isize::MIN),
            Action::Last => self.move_selection(isize::MAX),
            Action::Sort(column) => {
                view.query.sort = view.query.sort.clicked(column);
                self.settings.sort = view.query.sort;
            }
            Action::FilterStatus(status) => view.query.status = status,
            Action::ClearFilter => {
                view.query.text.clear();
                view.query.status = None;
                view.reveal = true;
                context.memory_mut(|memory| memory.request_focus(table_id()));
            }
            Action::FocusFilter => view.focus_filter = true,
            Action::ToggleSystem => {
                view.query.system_open = !view.query.system_open;
                self.settings.system_open = view.query.system_open;
            }
            Action::Widen(column, by) => table::widen(&mut self.settings.widths, column, by),
            Action::ResetWidths => self.settings.widths.clear(),
            Action::ToggleDetails => self.settings.details = !self.settings.details,
            Action::ShowDetails(tab) => {
                view.tab = tab;
                self.settings.details = true;
            }
            Action::ScrollDetails(by) => view.scroll_details += by,
            Action::ResizeDetails(by) => view.resize_details += by,
            Action::ToggleCompact => self.settings.compact = !self.settings.compact,
            Action::SetTheme(theme) => {
                self.settings.theme = theme;
                context.set_theme(theme);
            }
            Action::ToggleTheme => {
                let theme = match context.theme() {
                    Theme::Dark => ThemePreference::Light,
                    Theme::Light => ThemePreference::Dark,
                };
                self.settings.theme = theme;
                context.set_theme(theme);
            }
            Action::Dialog(dialog) => {
                view.picker = None;
                view.dialog = Some(dialog);
                self.ask(Request::List);
            }
            Action::PickTarget => {
                view.dialog = None;
                view.picker = Some(Default::default());
                self.ask(Request::List);
            }
            Action::CloseDialogs => {
                view.dialog = None;
                view.picker = None;
                context.memory_mut(|memory| memory.request_focus(table_id()));
            }
            _ => {}
        }
    }

    fn set_mode(&mut self, mode: Mode) {
        self.order(Command::SetMode(mode));
        self.remember(Change::Auto(mode));
    }

    fn mark(&mut self, path: PathBuf, mark: Mark) {
        let snapshot = self.tabs.get(self.active).and_then(|tab| tab.snapshot.as_deref());
        let named = snapshot.and_then(|snapshot| {
            let module = snapshot.modules.iter().find(|module| module.path == path)?;
            Some(config::name_of(module, &snapshot.modules))
        });
        self.order(Command::Mark { modules: vec![name(path)], mark });
        if let Some(module) = named {
            self.remember(Change::Mark { module, mark });
        }
    }

    /// Keeps a decision about the shown program in the user's file.
    fn remember(&mut self, change: Change) {
        let live = self.tabs.get(self.active).filter(|tab| tab.is_live());
        if let Some(program) = live.and_then(TargetTab::program) {
            self.ask(Request::Remember { program, change });
        }
    }

    /// Keeps the commands that started targets in the user's file, to start them again another day.
    pub fn remember_commands(&mut self) {
        for tab in &mut self.tabs {
            if let Some((program, command)) = tab.command_to_remember() {
                // The worker ends only after the window.
                let _ = self.connector.requests.send(Request::Remember { program, change: Change::Launch(command) });
            }
        }
    }

    fn edit(&mut self, place: Place, module: PathBuf) {
        self.ask(Request::Edit { editor: self.file.config.editor.clone(), place, module });
    }

    /// News in the corner of the window.
    pub fn toast(&mut self, message: String, failed: bool) {
        toasts::add(&mut self.toasts, Toast { message, failed, since: self.now });
    }

    fn launch(&mut self, command: Vec<String>) {
        self.view.dialog = None;
        self.view.picker = None;
        let name = command.first().map(|program| config::program_name(Path::new(program))).unwrap_or_default();
        // One that has ended gives its place, and its marks, to its successor.
        let again = self.tabs.iter().position(|tab| tab.ended().is_some() && tab.command == command);
        match again {
            Some(position) => {
                self.tabs[position].start_again();
                self.show_tab(position);
            }
            None => {
                let mut tab = TargetTab::new(0, name, Link::Opening);
                tab.command.clone_from(&command);
                self.show_new(tab);
            }
        }
        self.ask(Request::Launch { command });
    }

    fn open(&mut self, pid: u32) {
        self.view.picker = None;
        self.view.dialog = None;
        if let Some(position) = self.tabs.iter().position(|tab| tab.pid == pid) {
            self.show_tab(position);
            if !matches!(self.tabs[position].link, Link::Open(_) | Link::Opening) {
                self.tabs[position].link = Link::Opening;
                self.ask(Request::Open { pid });
            }
            return;
        }
        let name = self.candidates.iter().find(|candidate| candidate.pid == pid);
        let name = name.map_or_else(|| format!("process {pid}"), |candidate| candidate.name.clone());
        self.show_new(TargetTab::new(pid, name, Link::Opening));
        self.ask(Request::Open { pid });
    }

    /// Shows another target: instead of the shown one where that came to nothing, else beside it.
    fn show_new(&mut self, mut tab: TargetTab) {
        tab.heed(&self.file.config);
        match self.tabs.get_mut(self.active).filter(|shown| shown.is_vain()) {
            Some(shown) => *shown = tab,
            None => {
                self.tabs.push(tab);
                self.show_tab(self.tabs.len() - 1);
            }
        }
    }

    /// Shows the open target at this position, with the module selected that was selected there last.
    fn show_tab(&mut self, position: usize) {
        let position = position.min(self.tabs.len().saturating_sub(1));
        if position == self.active {
            return;
        }
        if let Some(tab) = self.tabs.get_mut(self.active) {
            tab.selected = self.view.selected.take();
        }
        self.active = position;
        self.view.choose(self.tabs.get_mut(position).and_then(|tab| tab.selected.take()));
    }

    fn close(&mut self, position: usize) {
        if position >= self.tabs.len() {
            return;
        }
        self.tabs.remove(position);
        if position < self.active {
            // The one shown stays shown.
            self.active -= 1;
        } else if position == self.active {
            self.active = self.active.min(self.tabs.len().saturating_sub(1));
            self.view.choose(self.tabs.get_mut(self.active).and_then(|tab| tab.selected.take()));
        }
    }

    fn move_selection(&mut self, rows: isize) {
        let Some(tab) = self.tabs.get(self.active) else {
            return;
        };
        let Some(snapshot) = &tab.snapshot else {
            return;
        };
        let modules: Vec<usize> = tab
            .index()
            .rows
            .iter()
            .filter_map(|row| match row {
                Row::Module(position) => Some(*position),
                Row::System { .. } => None,
            })
            .collect();
        let selected = self.view.selected.as_ref().and_then(|path| tab.module(path)).map(|(position, _)| position);
        let at = selected.and_then(|position| modules.iter().position(|module| *module == position));
        let to = match at {
            Some(at) => at.saturating_add_signed(rows).min(modules.len().saturating_sub(1)),
            None => 0,
        };
        if let Some(position) = modules.get(to) {
            self.view.choose(Some(snapshot.modules[*position].path.clone()));
        }
    }
}

/// Sessions are told the whole path: file names may be ambiguous.
fn name(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}

/// What is asked for to be typed in the dialog of this kind.
pub fn path_dialog(wanted: Wanted) -> Action {
    Action::Dialog(Dialog::Path(crate::window::path_dialog::PathField::new(wanted)))
}
