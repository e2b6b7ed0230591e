//! The window's application: takes in what sessions and worker send, shows the panels, carries out what they ask for.
//!
//! It holds the only mutable state of the window. Panels read a [`Scene`], write only into [`View`] (what is typed, selected
//! and open), and answer with [`Action`]s.

use std::{
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use eframe::egui::{
    CentralPanel, Context, Frame as PanelFrame, Id, Margin, Panel, Stroke, Theme, ThemePreference, Ui,
    UserAttentionType, ViewportCommand, Visuals,
};
use reload_engine::{
    model::{Mark, Module, Snapshot},
    session::Command,
};
use serde::{Deserialize, Serialize};

use crate::{
    window::{
        action::Action,
        details,
        dialogs::{self, Dialog},
        fonts, format, keys,
        rows::{Query, Row, Sort},
        states, status_bar, table,
        target_tab::{Link, TargetTab},
        theme::{self, Palette},
        tool_bar, top_bar,
    },
    worker::{Candidate, Connector, Reply, Request},
};

/// Where the keys of the table go.
pub fn table_id() -> Id {
    Id::unique("modules")
}

pub fn filter_id() -> Id {
    Id::unique("filter")
}

/// What is remembered from one run to the next.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub theme: ThemePreference,
    pub details: bool,
    pub compact: bool,
    pub sort: Sort,
    pub system_open: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            theme: ThemePreference::System,
            details: true,
            compact: false,
            sort: Sort::default(),
            system_open: false,
        }
    }
}

const SETTINGS: &str = "settings";

/// How often an ended target is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What the user has typed, selected and opened.
#[derive(Default)]
pub struct View {
    pub query: Query,
    pub selected: Option<PathBuf>,
    /// The table should bring the selected row into view.
    pub reveal: bool,
    pub tab: details::Tab,
    /// The search field of the changes.
    pub search: String,
    /// Position of the opened line of the history.
    pub history_open: Option<usize>,
    pub dialog: Option<Dialog>,
    pub focus_filter: bool,
    /// The target picker's list, while it is open.
    pub picker: Option<crate::window::chooser::Chooser>,
    /// How many rows fit on a page of the table.
    pub page: usize,
}

/// What panels read.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    pub tabs: &'a [TargetTab],
    pub active: usize,
    pub candidates: &'a [Candidate],
    pub settings: &'a Settings,
    pub now: SystemTime,
}

impl<'a> Scene<'a> {
    pub fn tab(&self) -> Option<&'a TargetTab> {
        self.tabs.get(self.active)
    }

    pub fn snapshot(&self) -> Option<&'a Snapshot> {
        self.tab()?.snapshot.as_deref()
    }

    pub fn is_live(&self) -> bool {
        self.tab().is_some_and(TargetTab::is_live)
    }

    pub fn selected(&self, view: &View) -> Option<&'a Module> {
        Some(self.tab()?.module(view.selected.as_ref()?)?.1)
    }
}

pub struct Dashboard {
    tabs: Vec<TargetTab>,
    active: usize,
    connector: Connector,
    candidates: Vec<Candidate>,
    settings: Settings,
    view: View,
    now: SystemTime,
    /// As last given to the window.
    title: String,
    started: bool,
    /// When ended targets were last looked for, and whether the answer is still to come.
    listed: Instant,
    listing: bool,
}

impl Dashboard {
    /// `context` and `storage` are those of eframe's creation context.
    pub fn new(
        context: &Context,
        storage: Option<&dyn eframe::Storage>,
        connector: Connector,
        tabs: Vec<TargetTab>,
    ) -> Dashboard {
        context.set_fonts(fonts::definitions());
        theme::install(context);
        let settings: Settings = storage.and_then(|storage| eframe::get_value(storage, SETTINGS)).unwrap_or_default();
        context.set_theme(settings.theme);
        let mut view = View::default();
        view.query.sort = settings.sort;
        view.query.system_open = settings.system_open;
        let mut dashboard = Dashboard {
            tabs,
            active: 0,
            connector,
            candidates: Vec::new(),
            settings,
            view,
            now: SystemTime::now(),
            title: String::new(),
            started: false,
            listed: Instant::now(),
            listing: false,
        };
        for tab in &dashboard.tabs {
            if matches!(tab.link, Link::Opening) {
                dashboard.ask(Request::Open { pid: tab.pid });
            }
        }
        dashboard.ask(Request::List);
        if let Some(tab) = dashboard.tabs.first_mut() {
            tab.drain();
        }
        dashboard
    }

    fn ask(&self, request: Request) {
        // The worker ends only after the window.
        let _ = self.connector.requests.send(request);
    }

    fn receive(&mut self, context: &Context) {
        let replies: Vec<Reply> = self.connector.replies.try_iter().collect();
        for reply in replies {
            match reply {
                Reply::Candidates(candidates) => {
                    self.listing = false;
                    self.candidates = candidates;
                    self.revive();
                }
                Reply::Opened { pid, session } => {
                    let link = match session {
                        Ok(session) => Link::Open(session),
                        Err(error) => {
                            let mut chain = error.chain();
                            let message = chain.remove(0);
                            Link::Refused { message, detail: chain }
                        }
                    };
                    if let Some(tab) =
                        self.tabs.iter_mut().find(|tab| tab.pid == pid && matches!(tab.link, Link::Opening))
                    {
                        tab.link = link;
                    }
                }
                Reply::Picked(path) => {
                    if let Some(Dialog::Load { path: typed, picking }) = &mut self.view.dialog {
                        *picking = false;
                        if let Some(path) = path {
                            *typed = path.display().to_string();
                        }
                    }
                }
            }
        }
        let mut failed = false;
        for tab in &mut self.tabs {
            failed |= tab.drain();
        }
        if failed && !context.input(|input| input.focused) {
            context.send_viewport_cmd(ViewportCommand::RequestUserAttention(UserAttentionType::Critical));
        }
        let title = match self.tabs.get(self.active) {
            Some(tab) => format!("{} · {} – reload-dashboard", tab.name, tab.pid),
            None => "reload-dashboard".to_owned(),
        };
        if self.title != title {
            context.send_viewport_cmd(ViewportCommand::Title(title.clone()));
            self.title = title;
        }
    }

    /// Takes up targets that had ended and have been started again.
    fn revive(&mut self) {
        let open: Vec<u32> = self.tabs.iter().map(|tab| tab.pid).collect();
        let mut free: Vec<&Candidate> = self
            .candidates
            .iter()
            .filter(|candidate| candidate.attachable.is_ok() && !open.contains(&candidate.pid))
            .collect();
        for tab in &mut self.tabs {
            let again = tab.ended().and_then(|exe| free.iter().position(|candidate| candidate.exe == exe));
            if let Some(position) = again {
                let pid = free.remove(position).pid;
                tab.revive(pid);
                let _ = self.connector.requests.send(Request::Open { pid });
            }
        }
    }

    /// While a target has ended, looks now and then whether it runs again.
    fn watch_for_return(&mut self, context: &Context) {
        if self.tabs.iter().all(|tab| tab.ended().is_none()) {
            return;
        }
        context.request_repaint_after(LOOK_AGAIN);
        if !self.listing && self.listed.elapsed() >= LOOK_AGAIN {
            self.listing = true;
            self.listed = Instant::now();
            self.ask(Request::List);
        }
    }

    /// The selection stays on its module; where that is gone, and at the start, it goes to the first row.
    fn keep_selection(&mut self) {
        let Some(tab) = self.tabs.get(self.active) else {
            return;
        };
        let there = self.view.selected.as_ref().is_some_and(|path| tab.module(path).is_some());
        if !there && let Some(snapshot) = &tab.snapshot {
            self.view.selected = tab.index().rows.iter().find_map(|row| match row {
                Row::Module(position) => Some(snapshot.modules[*position].path.clone()),
                Row::System { .. } => None,
            });
        }
    }

    fn scene(&self) -> Scene<'_> {
        Scene {
            tabs: &self.tabs,
            active: self.active,
            candidates: &self.candidates,
            settings: &self.settings,
            now: self.now,
        }
    }

    fn order(&mut self, command: Command) {
        if let Some(tab) = self.tabs.get_mut(self.active) {
            tab.order(command);
        }
    }

    fn apply(&mut self, context: &Context, action: Action) {
        match action {
            Action::ReloadNow => self.order(Command::Reload { modules: Vec::new(), force: false }),
            Action::Reload(path) => self.order(Command::Reload { modules: vec![name(path)], force: false }),
            Action::ReloadAnyway(path) => self.order(Command::Reload { modules: vec![name(path)], force: true }),
            Action::SetMode(mode) => self.order(Command::SetMode(mode)),
            Action::Mark(path, mark) => self.order(Command::Mark { modules: vec![name(path)], mark }),
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
            Action::Retry => {
                if let Some(tab) = self.tabs.get_mut(self.active) {
                    tab.link = Link::Opening;
                    let pid = tab.pid;
                    self.ask(Request::Open { pid });
                }
            }
            Action::Show(position) => {
                self.active = position.min(self.tabs.len().saturating_sub(1));
                self.view.selected = None;
            }
            Action::Close(position) => {
                if position < self.tabs.len() {
                    self.tabs.remove(position);
                    self.active = self.active.min(self.tabs.len().saturating_sub(1));
                    self.view.selected = None;
                }
            }
            Action::ListTargets => self.ask(Request::List),
            Action::PickFile => {
                if let Some(Dialog::Load { picking, .. }) = &mut self.view.dialog {
                    *picking = true;
                    self.ask(Request::PickFile);
                }
            }
            Action::Copy(text) => context.copy_text(text),
            Action::DismissNotice => {
                if let Some(tab) = self.tabs.get_mut(self.active) {
                    tab.notice = None;
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
                view.selected = Some(path);
                view.reveal = true;
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
            Action::ToggleDetails => self.settings.details = !self.settings.details,
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

    fn open(&mut self, pid: u32) {
        self.view.picker = None;
        self.view.dialog = None;
        self.view.selected = None;
        if let Some(position) = self.tabs.iter().position(|tab| tab.pid == pid) {
            self.active = position;
            if !matches!(self.tabs[position].link, Link::Open(_) | Link::Opening) {
                self.tabs[position].link = Link::Opening;
                self.ask(Request::Open { pid });
            }
            return;
        }
        let name = self.candidates.iter().find(|candidate| candidate.pid == pid);
        let name = name.map_or_else(|| format!("process {pid}"), |candidate| candidate.name.clone());
        self.tabs.push(TargetTab::new(pid, name, Link::Opening));
        self.active = self.tabs.len() - 1;
        self.ask(Request::Open { pid });
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
            self.view.selected = Some(snapshot.modules[*position].path.clone());
            self.view.reveal = true;
        }
    }

    fn show(&mut self, ui: &mut Ui) -> Vec<Action> {
        let palette = Palette::of(ui.ctx().theme());
        let mut actions = keys::actions(ui, &self.scene(), &self.view);
        let scene = Scene {
            tabs: &self.tabs,
            active: self.active,
            candidates: &self.candidates,
            settings: &self.settings,
            now: self.now,
        };
        let view = &mut self.view;
        let wide = ui.available_width() >= theme::WIDE;
        let bar = |vertical: i8| {
            PanelFrame::NONE.fill(palette.panel).inner_margin(Margin::symmetric(theme::GUTTER as i8, vertical))
        };
        let stroke = Stroke::new(1.0, palette.line);

        let top = Panel::top("top bar").frame(bar(0)).exact_size(theme::TOP_BAR).show_separator_line(false);
        let rect = top.show(ui, |ui| top_bar::show(ui, &scene, view, &mut actions)).response.rect;
        ui.painter().hline(rect.x_range(), rect.bottom() - 0.5, stroke);
        let bottom = Panel::bottom("status bar").frame(bar(0)).exact_size(theme::STATUS_BAR).show_separator_line(false);
        let rect = bottom.show(ui, |ui| status_bar::show(ui, &scene, &mut actions)).response.rect;
        ui.painter().hline(rect.x_range(), rect.top() + 0.5, stroke);

        let listed = scene.snapshot().is_some_and(|snapshot| !snapshot.modules.is_empty());
        if listed && scene.settings.details {
            let frame = PanelFrame::NONE.fill(palette.panel).inner_margin(Margin::symmetric(16, 12));
            if wide {
                let most = (ui.available_width() * 0.5).max(340.0);
                let panel = Panel::right("details").default_size(390.0).size_range(320.0..=most);
                panel.frame(frame).show(ui, |ui| details::show(ui, &scene, view, &mut actions));
            } else {
                let most = (ui.available_height() * 0.6).max(180.0);
                let panel = Panel::bottom("details below").default_size(250.0).size_range(160.0..=most);
                panel.frame(frame).show(ui, |ui| details::show(ui, &scene, view, &mut actions));
            }
        }
        if listed {
            let panel = Panel::top("tool bar").frame(bar(0)).exact_size(theme::TOOL_BAR).show_separator_line(false);
            let rect = panel.show(ui, |ui| tool_bar::show(ui, &scene, view, &mut actions)).response.rect;
            ui.painter().hline(rect.x_range(), rect.bottom() - 0.5, stroke);
        }
        states::banners(ui, &scene, &mut actions);
        CentralPanel::default().frame(PanelFrame::NONE.fill(palette.canvas)).show(ui, |ui| {
            if !states::show(ui, &scene, view, &mut actions) {
                table::show(ui, &scene, view, &mut actions);
            }
        });
        dialogs::show(ui, &scene, view, &mut actions);
        actions
    }
}

/// Sessions are told the whole path: file names may be ambiguous.
fn name(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}

/// What a press of the mark key or button makes of a mark.
pub fn toggled(mark: Mark, to: Mark) -> Mark {
    if mark == to { Mark::None } else { to }
}

impl eframe::App for Dashboard {
    fn logic(&mut self, context: &Context, _frame: &mut eframe::Frame) {
        self.now = SystemTime::now();
        self.receive(context);
        if let Some(tab) = self.tabs.get_mut(self.active) {
            tab.derive(&self.view.query);
        }
        self.keep_selection();
        self.watch_for_return(context);
    }

    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        if !self.started {
            self.started = true;
            ui.memory_mut(|memory| memory.request_focus(table_id()));
        }
        let context = ui.ctx().clone();
        let actions = self.show(ui);
        let again = !actions.is_empty();
        for action in actions {
            self.apply(&context, action);
        }
        if again {
            if let Some(tab) = self.tabs.get_mut(self.active) {
                tab.derive(&self.view.query);
            }
            // What was done is to be seen now, not with the next event.
            context.request_repaint();
        }
        let wait = match self.tabs.get(self.active) {
            Some(tab) => format::next_age_change(tab.times(), self.now),
            None => Duration::from_secs(3600),
        };
        context.request_repaint_after(wait);
    }

    fn save(&mut self, storage: &mut dyn eframe::Storage) {
        eframe::set_value(storage, SETTINGS, &self.settings);
    }

    fn clear_color(&self, visuals: &Visuals) -> [f32; 4] {
        visuals.panel_fill.to_normalized_gamma_f32()
    }
}
