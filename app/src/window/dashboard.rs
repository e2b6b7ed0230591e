//! The window's application: takes in what sessions and worker send, shows the panels, carries out what they ask for.
//!
//! It holds the only mutable state of the window. Panels read a [`Scene`], write only into [`View`] (what is typed, selected
//! and open), and answer with [`Action`]s.

use std::{
    cell::Cell,
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime},
};

use eframe::egui::{
    CentralPanel, Context, Frame as PanelFrame, Margin, Panel, Stroke, Ui, UserAttentionType, ViewportCommand, Visuals,
};
use jiff::tz::TimeZone;
use reload_engine::{
    error::Error,
    model::{Module, Status},
};

use crate::{
    config::file::Found,
    glyphs::Font,
    window::{
        SMALLEST,
        action::Action,
        details,
        dialogs::{self, Dialog},
        fonts, format, keys,
        news::{self, News},
        placement::{self, Fit},
        rows::Row,
        scene::{Scene, View, table_id},
        settings::{self, Settings},
        states, status_bar, tab_strip, table,
        target_tab::{Link, TargetTab},
        theme::{self, Palette},
        toasts::{self, Toast},
        tool_bar, top_bar,
    },
    worker::{Candidate, Connector, Reply, Request},
};

/// How often work under way is looked at.
const LOOK_AT_WORK: Duration = Duration::from_millis(150);
/// How often it is told for how long a session has been opening.
const LOOK_AT_OPENING: Duration = Duration::from_secs(1);
/// How often it is looked what runs, for a target that has ended or is to be chosen.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

pub struct Dashboard {
    pub(super) tabs: Vec<TargetTab>,
    pub(super) active: usize,
    pub(super) connector: Connector,
    pub(super) candidates: Vec<Candidate>,
    pub(super) settings: Settings,
    /// The user's file as it was read last.
    pub(super) file: Found,
    /// Why it could not be read, as long as that lasts.
    file_problem: Option<String>,
    /// That is one of writing it.
    file_unwritable: bool,
    pub(super) toasts: Vec<Toast>,
    pub(super) view: View,
    pub(super) now: SystemTime,
    clock: fn() -> SystemTime,
    zone: TimeZone,
    was_focused: bool,
    /// As last given to the window.
    title: String,
    started: bool,
    /// Fonts of the system for characters that ours lack, and every such character met so far.
    system_fonts: Vec<Font>,
    met: BTreeSet<char>,
    /// The snapshot whose names were looked through last: which target, which revision.
    read: Option<(u32, u64)>,
    /// When it was last looked what runs, and whether the answer is still to come.
    listed: Instant,
    listing: bool,
    /// Whether the window has its place on the screen.
    fit: Fit,
}

impl Dashboard {
    /// `context` and `storage` are those of eframe's creation context.
    pub fn new(
        context: &Context,
        storage: Option<&dyn eframe::Storage>,
        connector: Connector,
        tabs: Vec<TargetTab>,
    ) -> Dashboard {
        context.set_fonts(fonts::definitions(&[]));
        theme::install(context);
        let settings: Settings =
            storage.and_then(|storage| eframe::get_value(storage, settings::KEY)).unwrap_or_default();
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
            file: Found::default(),
            file_problem: None,
            file_unwritable: false,
            toasts: Vec::new(),
            view,
            now: SystemTime::now(),
            clock: SystemTime::now,
            zone: TimeZone::system(),
            was_focused: true,
            title: String::new(),
            started: false,
            system_fonts: Vec::new(),
            met: BTreeSet::new(),
            read: None,
            listed: Instant::now(),
            listing: false,
            fit: Fit::Placed,
        };
        for tab in &dashboard.tabs {
            if matches!(tab.link, Link::Opening) {
                dashboard.ask(Request::Open { pid: tab.pid });
            }
        }
        dashboard.ask(Request::ReadConfig);
        dashboard.ask(Request::List);
        if let Some(tab) = dashboard.tabs.first_mut() {
            tab.drain(dashboard.now);
        }
        dashboard
    }

    /// Opened beside a program's window: it is to leave the left of the screen to that, and not to reach over the right.
    pub fn beside(mut self) -> Dashboard {
        self.fit = Fit::Unplaced;
        self
    }

    /// Makes the window as small as the screen demands, once it is known how large that is, and again once it has a frame.
    fn place(&mut self, context: &Context) {
        if self.fit == Fit::Placed {
            return;
        }
        let (screen, outer, inner) = context.input(|input| {
            let viewport = input.viewport();
            (viewport.monitor_size, viewport.outer_rect, viewport.inner_rect)
        });
        let (Some(screen), Some(outer), Some(inner)) = (screen, outer, inner) else {
            return;
        };
        let Some(next) = self.fit.next(outer.size() != inner.size()) else {
            return;
        };
        self.fit = next;
        let wanted = placement::within(screen, outer, inner.size(), SMALLEST);
        if wanted.size() != inner.size() {
            context.send_viewport_cmd(ViewportCommand::InnerSize(wanted.size()));
        }
        if wanted.min != outer.min {
            context.send_viewport_cmd(ViewportCommand::OuterPosition(wanted.min));
        }
    }

    /// With another clock than the system's, which shows universal time: pictures show ages and times.
    pub fn at(mut self, clock: fn() -> SystemTime) -> Dashboard {
        self.clock = clock;
        self.zone = TimeZone::UTC;
        self
    }

    pub(super) fn ask(&self, request: Request) {
        // The worker ends only after the window.
        let _ = self.connector.requests.send(request);
    }

    fn receive(&mut self, context: &Context) {
        let replies: Vec<Reply> = self.connector.replies.try_iter().collect();
        for reply in replies {
            if let Reply::Fonts(fonts) = reply {
                self.add_fonts(context, fonts);
            } else {
                self.take(reply);
            }
        }
        let mut news: Vec<News> = Vec::new();
        for tab in &mut self.tabs {
            news.extend(tab.drain(self.now));
        }
        if self.tabs.iter().any(|tab| tab.doing.is_some()) {
            context.request_repaint_after(LOOK_AT_WORK);
        } else if self.tabs.iter().any(|tab| matches!(tab.link, Link::Opening)) {
            context.request_repaint_after(LOOK_AT_OPENING);
        }
        // As the window stands now: of one that is minimised the rest of the input is that of its last frame.
        let focused = context.input(|input| input.raw.focused);
        for (message, failed) in news.iter().filter_map(News::toast) {
            self.toast(message, failed);
        }
        if !focused && let Some((summary, body)) = news::notification(&news) {
            context.send_viewport_cmd(ViewportCommand::RequestUserAttention(UserAttentionType::Critical));
            self.ask(Request::Notify { summary, body });
        }
        if focused && !self.was_focused {
            // Whoever comes back may have edited the file.
            self.ask(Request::ReadConfig);
        }
        self.was_focused = focused;
        let title = match self.tabs.get(self.active) {
            Some(tab) => format!("{} – reload-dashboard", tab.title()),
            None => "reload-dashboard".to_owned(),
        };
        if self.title != title {
            context.send_viewport_cmd(ViewportCommand::Title(title.clone()));
            self.title = title;
        }
    }

    fn take(&mut self, reply: Reply) {
        match reply {
            Reply::Candidates(candidates) => {
                self.listing = false;
                self.candidates = candidates;
                self.revive();
            }
            Reply::Opened { pid, session } => {
                let opening = |tab: &&mut TargetTab| tab.pid == pid && matches!(tab.link, Link::Opening);
                // One that was given up meanwhile is closed by dropping its session.
                if let Some(tab) = self.tabs.iter_mut().find(opening) {
                    tab.link = session.map_or_else(|error| refused(&error), Link::Open);
                }
            }
            Reply::Launched { command, started } => {
                let opening =
                    |tab: &&mut TargetTab| tab.command == command && tab.pid == 0 && matches!(tab.link, Link::Opening);
                if let Some(tab) = self.tabs.iter_mut().find(opening) {
                    match started {
                        Ok(started) => tab.started(started.pid, started.name, started.session),
                        Err(error) => tab.link = refused(&error),
                    }
                }
            }
            Reply::Picked { wanted, answer } => {
                if let Some(Dialog::Path(field)) = &mut self.view.dialog
                    && field.wanted == wanted
                {
                    field.picked(answer.map_err(drop));
                }
            }
            Reply::Config(Ok(found)) => {
                // That it can be read says nothing of writing.
                if !self.file_unwritable {
                    self.tell_of_file(None);
                }
                for tab in &mut self.tabs {
                    tab.heed(&found.config);
                }
                self.file = found;
            }
            Reply::Remembered(Ok(found)) => {
                self.file_unwritable = false;
                self.tell_of_file(None);
                for tab in &mut self.tabs {
                    tab.told(&found.config);
                }
                self.file = found;
            }
            Reply::Config(Err(problem)) => {
                let message = problem.to_string();
                self.file.path = problem.path;
                // Said once, not at each look.
                if self.file_problem.as_ref().is_none_or(|told| !told.starts_with(&message)) {
                    self.tell_of_file(Some(message));
                }
            }
            Reply::Remembered(Err(problem)) => {
                let message = problem.to_string();
                // A flaw in what it says has a line.
                self.file_unwritable = problem.line.is_none();
                self.file.path = problem.path;
                self.tell_of_file(Some(message));
            }
            // Needs the context.
            Reply::Fonts(_) => {}
            Reply::Done(message) => self.toast(message, false),
            Reply::Failed(message) => self.toast(format::capital(&message), true),
        }
    }

    /// What is wrong with the user's file, in the place of what was wrong with it before.
    fn tell_of_file(&mut self, problem: Option<String>) {
        if let Some(told) = std::mem::replace(&mut self.file_problem, problem.clone()) {
            self.toasts.retain(|toast| toast.message != told);
        }
        if let Some(message) = problem {
            self.toast(message, true);
        }
    }

    fn add_fonts(&mut self, context: &Context, fonts: Vec<Font>) {
        let known = self.system_fonts.len();
        for font in fonts {
            if !self.system_fonts.iter().any(|other| other.path == font.path && other.index == font.index) {
                self.system_fonts.push(font);
            }
        }
        if self.system_fonts.len() > known {
            context.set_fonts(fonts::definitions(&self.system_fonts));
        }
    }

    /// Asks for fonts where a name of the shown target is in a script that ours lack.
    fn read_names(&mut self, context: &Context) {
        let Some(snapshot) = self.tabs.get(self.active).and_then(|tab| tab.snapshot.clone()) else {
            return;
        };
        let now = Some((snapshot.target.pid, snapshot.revision));
        if std::mem::replace(&mut self.read, now) == now {
            return;
        }
        let paths = snapshot.modules.iter().map(|module| module.path.to_string_lossy());
        let told = snapshot.modules.iter().filter_map(|module| Some((&*module.failure.as_ref()?.message).into()));
        let target = [snapshot.target.exe.to_string_lossy(), (&*snapshot.target.name).into()];
        let lacking = fonts::lacking(context, paths.chain(told).chain(target), &mut self.met);
        if !lacking.is_empty() {
            self.ask(Request::Fonts(lacking));
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
            let again = tab.ended().and_then(|exe| free.iter().position(|candidate| candidate.runs(exe)));
            if let Some(position) = again {
                let pid = free.remove(position).pid;
                tab.revive(pid);
                let _ = self.connector.requests.send(Request::Open { pid });
            }
        }
    }

    /// While a target has ended, or one is being chosen, looks now and then what runs.
    fn look_around(&mut self, context: &Context) {
        // Not for a window that lies behind others all day.
        let choosing = (self.tabs.is_empty() || self.view.picker.is_some()) && context.input(|input| input.focused);
        if !choosing && self.tabs.iter().all(|tab| tab.ended().is_none()) {
            return;
        }
        context.request_repaint_after(LOOK_AGAIN);
        if !self.listing && self.listed.elapsed() >= LOOK_AGAIN {
            self.listing = true;
            self.listed = Instant::now();
            self.ask(Request::List);
        }
    }

    /// The selection stays on its module; where that is gone, and at the start, it goes to the first row. From there it goes
    /// on to what fails first, unless something else is being read: why it failed is to be seen at once.
    fn keep_selection(&mut self) {
        let Some((tab, snapshot)) = self.tabs.get(self.active).and_then(|tab| Some((tab, tab.snapshot.as_ref()?)))
        else {
            return;
        };
        let mut rows = tab.index().rows.iter().filter_map(|row| match row {
            Row::Module(position) => Some(&snapshot.modules[*position]),
            Row::System { .. } => None,
        });
        let has_failed = |module: &&Module| matches!(module.status, Status::Failed | Status::Refused);
        let view = &mut self.view;
        let selected = view.selected.as_ref().and_then(|path| Some(tab.module(path)?.1));
        let next = match selected {
            Some(_) if view.chosen => return,
            Some(selected) if has_failed(&selected) => Some(selected),
            Some(_) if view.tab != details::Tab::Trace => return,
            Some(_) => match rows.find(has_failed) {
                None => return,
                failed => failed,
            },
            None => {
                let first = rows.next();
                first.filter(has_failed).or_else(|| rows.find(has_failed)).or(first)
            }
        };
        view.selected = next.map(|module| module.path.clone());
        view.chosen = next.as_ref().is_some_and(has_failed);
        view.reveal |= next.is_some();
    }

    /// What the user asks for, and for how long what is shown reads rightly.
    fn show(&mut self, ui: &mut Ui) -> (Vec<Action>, Duration) {
        let palette = Palette::of(ui.ctx().theme());
        let lasts = Cell::new(Duration::MAX);
        let scene = Scene {
            tabs: &self.tabs,
            active: self.active,
            candidates: &self.candidates,
            settings: &self.settings,
            file: &self.file,
            toasts: &self.toasts,
            now: self.now,
            zone: &self.zone,
            lasts: &lasts,
        };
        let view = &mut self.view;
        let mut actions = keys::actions(ui, &scene, view);
        let wide = ui.available_width() >= theme::WIDE;
        let bar = |vertical: i8| {
            PanelFrame::NONE.fill(palette.panel).inner_margin(Margin::symmetric(theme::GUTTER as i8, vertical))
        };
        let stroke = Stroke::new(1.0, palette.line);

        let top = Panel::top("top bar").frame(bar(0)).exact_size(theme::TOP_BAR).show_separator_line(false);
        let rect = top.show(ui, |ui| top_bar::show(ui, &scene, view, &mut actions)).response.rect;
        ui.painter().hline(rect.x_range(), rect.bottom() - 0.5, stroke);
        if scene.tabs.len() > 1 {
            let panel = Panel::top("targets").frame(bar(0)).exact_size(theme::TAB_STRIP).show_separator_line(false);
            let rect = panel.show(ui, |ui| tab_strip::show(ui, &scene, &mut actions)).response.rect;
            ui.painter().hline(rect.x_range(), rect.bottom() - 0.5, stroke);
        }
        let bottom = Panel::bottom("status bar").frame(bar(0)).exact_size(theme::STATUS_BAR).show_separator_line(false);
        let rect = bottom.show(ui, |ui| status_bar::show(ui, &scene, &mut actions)).response.rect;
        ui.painter().hline(rect.x_range(), rect.top() + 0.5, stroke);

        let listed = scene.snapshot().is_some_and(|snapshot| !snapshot.modules.is_empty());
        if listed && scene.settings.details {
            let frame = PanelFrame::NONE.fill(palette.panel).inner_margin(Margin::symmetric(details::MARGIN as i8, 12));
            let (panel, name) = if wide {
                let most = (ui.available_width() * 0.5).max(340.0);
                (Panel::right("details").default_size(390.0).size_range(320.0..=most), "details")
            } else {
                let most = (ui.available_height() * 0.6).max(180.0);
                let usual = (ui.available_height() * 0.42).clamp(190.0, 330.0);
                let panel = Panel::bottom("details below").resizable(true).default_size(usual);
                (panel.size_range(160.0..=most), "details below")
            };
            let edge = details::edge(ui, name, wide, view);
            let rect = panel.frame(frame).show(ui, |ui| details::show(ui, &scene, view, &mut actions)).response.rect;
            ui.ctx().accesskit_node_builder(edge, |node| node.set_label("Size of the details"));
            if ui.memory(|memory| memory.has_focus(edge)) {
                let stroke = Stroke::new(2.0, palette.accent_text);
                if wide {
                    ui.painter().vline(rect.left() + 1.0, rect.y_range(), stroke);
                } else {
                    ui.painter().hline(rect.x_range(), rect.top() + 1.0, stroke);
                }
            }
        }
        if listed {
            let panel = Panel::top("tool bar").frame(bar(0)).exact_size(theme::TOOL_BAR).show_separator_line(false);
            let rect = panel.show(ui, |ui| tool_bar::show(ui, &scene, view, &mut actions)).response.rect;
            ui.painter().hline(rect.x_range(), rect.bottom() - 0.5, stroke);
        }
        states::banners(ui, &scene, &mut actions);
        let list = CentralPanel::default().frame(PanelFrame::NONE.fill(palette.canvas)).show(ui, |ui| {
            if !states::show(ui, &scene, view, &mut actions) {
                table::show(ui, &scene, view, &mut actions);
            }
        });
        toasts::show(ui, &scene, list.response.rect.bottom(), &mut actions);
        dialogs::show(ui, &scene, view, &mut actions);
        (actions, lasts.get())
    }
}

fn refused(error: &Error) -> Link {
    let mut chain = error.chain();
    let message = chain.remove(0);
    Link::Refused { message, detail: chain, gone: matches!(error, Error::NoSuchProcess { .. }) }
}

impl eframe::App for Dashboard {
    fn logic(&mut self, context: &Context, _frame: &mut eframe::Frame) {
        self.now = (self.clock)();
        self.receive(context);
        if let Some(tab) = self.tabs.get_mut(self.active) {
            tab.derive(&self.view.query);
        }
        self.keep_selection();
        self.look_around(context);
        if let Some(wait) = toasts::expire(&mut self.toasts, self.now) {
            context.request_repaint_after(wait);
        }
        self.remember_commands();
        if let Some(program) = self.tabs.get(self.active).and_then(TargetTab::program) {
            self.settings.last_program = Some(program);
        }
    }

    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        if !self.started {
            self.started = true;
            ui.memory_mut(|memory| memory.request_focus(table_id()));
        }
        let context = ui.ctx().clone();
        self.place(&context);
        self.read_names(&context);
        let (actions, lasts) = self.show(ui);
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
        if lasts < Duration::MAX {
            context.request_repaint_after(lasts);
        }
    }

    fn save(&mut self, storage: &mut dyn eframe::Storage) {
        eframe::set_value(storage, settings::KEY, &self.settings);
    }

    fn clear_color(&self, visuals: &Visuals) -> [f32; 4] {
        visuals.panel_fill.to_normalized_gamma_f32()
    }
}
