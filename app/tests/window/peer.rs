//! The other side of the window's channels, played by the test: it sends snapshots and looks at the orders that arrive.

use std::{sync::Arc, time::Duration};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use eframe::egui::{Key, Modifiers, Theme, Vec2};
use egui_kittest::{
    Harness, HarnessBuilder,
    kittest::{NodeT, Queryable},
};
use reload_dashboard::{
    config::file::Found,
    window::{Dashboard, Link, TargetTab},
    worker::{Candidate, Connector, Reply, Request},
};
use reload_engine::{
    model::Snapshot,
    progress::Progress,
    session::{Command, Order, Session, Update},
};

use crate::raster::Raster;

/// A session's thread as the window sees it.
pub struct Peer {
    pub orders: Receiver<Order>,
    pub updates: Sender<Update>,
    pub progress: Progress,
}

impl Peer {
    pub fn new() -> (Session, Peer) {
        let (orders, incoming) = bounded(64);
        let (updates, outgoing) = unbounded();
        let progress = Progress::default();
        let session = Session { orders, updates: outgoing, progress: progress.clone() };
        (session, Peer { orders: incoming, updates, progress })
    }
}

pub struct Window {
    pub harness: Harness<'static, Dashboard>,
    pub peer: Option<Peer>,
    pub requests: Receiver<Request>,
    pub replies: Sender<Reply>,
    snapshot: Snapshot,
}

pub const WIDE: Vec2 = Vec2::new(1280.0, 800.0);
pub const NARROW: Vec2 = Vec2::new(900.0, 700.0);

impl Window {
    /// Attached, with this snapshot shown.
    pub fn attached(snapshot: Snapshot) -> Window {
        Window::sized(snapshot, WIDE, Theme::Dark)
    }

    pub fn sized(snapshot: Snapshot, size: Vec2, theme: Theme) -> Window {
        let (session, peer) = Peer::new();
        let tab = TargetTab::new(snapshot.target.pid, snapshot.target.name.clone(), Link::Open(session));
        peer.updates.send(Update::Snapshot(Arc::new(snapshot.clone()))).unwrap();
        Window::build(vec![tab], Some(peer), snapshot, size, theme)
    }

    /// With these targets, and nothing heard of them yet.
    pub fn with_tabs(tabs: Vec<TargetTab>, peer: Option<Peer>) -> Window {
        Window::build(tabs, peer, crate::sample::snapshot(), WIDE, Theme::Dark)
    }

    pub fn build(tabs: Vec<TargetTab>, peer: Option<Peer>, snapshot: Snapshot, size: Vec2, theme: Theme) -> Window {
        Window::scaled(tabs, peer, snapshot, (size, 1.0), theme)
    }

    /// Attached, and boxes in place of characters that the fonts lack are no mistake.
    pub fn tolerant(snapshot: Snapshot) -> Window {
        let (session, peer) = Peer::new();
        let tab = TargetTab::new(snapshot.target.pid, snapshot.target.name.clone(), Link::Open(session));
        peer.updates.send(Update::Snapshot(Arc::new(snapshot.clone()))).unwrap();
        Window::make(vec![tab], Some(peer), snapshot, Harness::builder().with_size(WIDE).allow_missing_glyphs())
    }

    /// As [`Window::build`], with so many pixels to a point.
    pub fn scaled(
        tabs: Vec<TargetTab>,
        peer: Option<Peer>,
        snapshot: Snapshot,
        (size, scale): (Vec2, f32),
        theme: Theme,
    ) -> Window {
        let harness = Harness::builder().with_size(size).with_theme(theme).with_pixels_per_point(scale);
        Window::make(tabs, peer, snapshot, harness)
    }

    fn make(
        tabs: Vec<TargetTab>,
        peer: Option<Peer>,
        snapshot: Snapshot,
        harness: HarnessBuilder<Dashboard>,
    ) -> Window {
        let (requests, incoming) = unbounded();
        let (replies, outgoing) = unbounded();
        let connector = Connector { requests, replies: outgoing };
        let harness = harness.with_max_steps(12).renderer(Raster::default());
        let harness = harness.build_eframe(move |creation| {
            Dashboard::new(&creation.egui_ctx, creation.storage, connector, tabs).at(crate::sample::now)
        });
        let mut window = Window { harness, peer, requests: incoming, replies, snapshot };
        window.run();
        window
    }

    pub fn run(&mut self) {
        self.harness.run();
    }

    /// Changes the snapshot and sends it.
    pub fn update(&mut self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.snapshot);
        self.snapshot.revision += 1;
        self.send(Update::Snapshot(Arc::new(self.snapshot.clone())));
    }

    pub fn send(&mut self, update: Update) {
        self.peer.as_ref().expect("a session").updates.send(update).unwrap();
        self.run();
    }

    pub fn candidates(&mut self, candidates: Vec<Candidate>) {
        self.replies.send(Reply::Candidates(candidates)).unwrap();
        self.run();
    }

    pub fn key(&mut self, key: Key) {
        self.harness.key_press(key);
        self.run();
    }

    pub fn keys(&mut self, modifiers: Modifiers, key: Key) {
        self.harness.key_press_modifiers(modifiers, key);
        self.run();
    }

    pub fn text(&mut self, text: &str) {
        self.harness.event(eframe::egui::Event::Text(text.to_owned()));
        self.run();
    }

    /// A click with the pointer on what is called so.
    #[track_caller]
    pub fn click(&mut self, label: &str) {
        self.harness.get_by_label(label).click();
        self.run();
    }

    pub fn sees(&self, label: &str) -> bool {
        self.harness.query_all_by_label(label).next().is_some()
    }

    #[track_caller]
    pub fn assert_sees(&self, part: &str) {
        assert!(self.harness.query_all_by_label_contains(part).next().is_some(), "`{part}` is not shown");
    }

    /// The names of the rows, from top to bottom, each `name, Status`.
    pub fn rows(&self) -> Vec<String> {
        let mut rows: Vec<(f32, String)> = self
            .harness
            .query_all_by_role(eframe::egui::Role::Row)
            .map(|node| (node.rect().top(), node.accesskit_node().label().unwrap_or_default()))
            .collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        rows.into_iter().map(|(_, name)| name).collect()
    }

    pub fn selected(&self) -> Option<String> {
        let mut rows = self.harness.query_all_by_role(eframe::egui::Role::Row);
        let row = rows.find(|node| node.accesskit_node().is_selected() == Some(true))?;
        row.accesskit_node().label()
    }

    /// The next order the window has given.
    #[track_caller]
    pub fn ordered(&self) -> Command {
        let orders = &self.peer.as_ref().expect("a session").orders;
        orders.recv_timeout(Duration::from_secs(2)).expect("an order").command
    }

    #[track_caller]
    pub fn assert_no_order(&self) {
        if let Some(peer) = &self.peer
            && let Ok(order) = peer.orders.try_recv()
        {
            panic!("unexpected order {:?}", order.command);
        }
    }

    /// Everything asked of the worker so far.
    pub fn requested(&self) -> Vec<Request> {
        self.requests.try_iter().collect()
    }

    /// What the window shows, drawn without a GPU.
    pub fn picture(&mut self) -> image::RgbaImage {
        self.harness.render().expect("the window can be drawn")
    }

    /// The user's file as the worker reads it, with this text in it.
    pub fn file(&mut self, text: &str) {
        let config = reload_dashboard::config::parse(text).unwrap();
        let path = "/home/ada/aurora/reload-dashboard.toml".into();
        self.replies.send(Reply::Config(Ok(Found { path, config }))).unwrap();
        self.run();
    }

    /// The other window has the keyboard, or this one again.
    pub fn focus(&mut self, focused: bool) {
        self.harness.input_mut().focused = focused;
        self.harness.event(eframe::egui::Event::WindowFocused(focused));
        self.run();
    }
}
