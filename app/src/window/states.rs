//! What stands in place of the table, or above it, while there is nothing to list: each state with its next step.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use eframe::egui::{Align, Color32, Frame, Id, Label, Layout, Margin, Panel, RichText, Stroke, Ui, vec2};
use reload_engine::{
    discovery::Candidate,
    model::{Connection, HistoryEntry, Outcome, Snapshot},
};

use crate::{
    config,
    desktop::Wanted,
    window::{
        action::Action,
        carry_out::path_dialog,
        chooser::{self, Entry},
        controls::{self, Button, Weight, palette},
        details::passage,
        dialogs::Dialog,
        format, icons,
        news::{is_crash, signal_name, signal_of},
        path_dialog::PathField,
        scene::{Scene, View},
        target_tab::{Link, TargetTab},
        theme,
    },
};

/// A crash so soon after a reload is probably its doing.
const SUSPICIOUS: Duration = Duration::from_secs(60);
/// Attaching is usually over much sooner.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many programs are offered where there is no target.
const OFFERED: usize = 6;

/// Shows the state that takes the table's place, if there is one.
pub fn show(ui: &mut Ui, scene: &Scene<'_>, view: &View, actions: &mut Vec<Action>) -> bool {
    let choose = [("Choose a target", Action::PickTarget)];
    let Some(tab) = scene.tab() else {
        not_attached(ui, scene, actions);
        return true;
    };
    match (&tab.link, &tab.snapshot) {
        (Link::Refused { message, detail, gone }, None) => {
            let mut text = format::sentence(message);
            for line in detail {
                text.push('\n');
                text.push_str(line);
            }
            let other = if tab.pid == 0 {
                ("Change the command", Action::Dialog(Dialog::Path(PathField::command(&tab.command))))
            } else {
                ("Choose another target", Action::PickTarget)
            };
            let steps = [("Try again", Action::Retry), other];
            let steps = if *gone { &steps[1..] } else { &steps };
            let title = format!("Could not {} {}", if tab.pid == 0 { "start" } else { "attach to" }, tab.name);
            page(ui, icons::WARNING, &title, &text, None, steps, actions);
            true
        }
        (Link::Closed, None) => {
            let steps = [("Attach again", Action::Retry), ("Choose another target", Action::PickTarget)];
            page(
                ui,
                icons::WARNING,
                "Connection lost",
                "The session ended before it could list the modules.",
                None,
                &steps,
                actions,
            );
            true
        }
        (Link::Opening | Link::Open(_), None) => {
            let age = opening_for(scene, tab);
            let title = match age {
                Some(age) => format!("{} · {}", opening(tab), format::seconds(age)),
                None => opening(tab),
            };
            let text = if age.is_some_and(|age| age >= PATIENCE) {
                "It takes longer than usual. The program is entered only where none of its threads is in the loader, the \
                 allocator or fork; a debugger or a stop holds it up, too."
            } else {
                "The list appears as soon as the program's modules have been read."
            };
            let cancel = [("Cancel", Action::Close(scene.active)), ("Choose another target", Action::PickTarget)];
            page(ui, icons::DETACHED, &title, text, None, &cancel, actions);
            true
        }
        (_, Some(snapshot)) if snapshot.modules.is_empty() => {
            let text = "The program has loaded no module yet. Modules appear here as it loads them.";
            let load = [("Load a module", path_dialog(Wanted::Library))];
            let steps: &[_] = if tab.is_live() { &load } else { &choose };
            page(ui, icons::EMPTY, "No modules", text, None, steps, actions);
            true
        }
        (_, Some(_)) if tab.index().rows.is_empty() => {
            let text = if view.query.is_filtered() {
                "None of the modules has what you are looking for."
            } else {
                "There is nothing to list."
            };
            page(
                ui,
                icons::NO_MATCH,
                "No module matches",
                text,
                None,
                &[("Clear filter", Action::ClearFilter)],
                actions,
            );
            true
        }
        _ => false,
    }
}

/// For how long the session has been opening, as soon as that is worth telling.
fn opening_for(scene: &Scene<'_>, tab: &TargetTab) -> Option<Duration> {
    let age = scene.now.duration_since(tab.opening_since?).ok()?;
    (age >= Duration::from_secs(1)).then_some(age)
}

fn opening(tab: &TargetTab) -> String {
    format!("{} {}", if tab.pid == 0 { "Starting" } else { "Attaching to" }, tab.name)
}

/// Nothing is shown yet: what could be.
fn not_attached(ui: &mut Ui, scene: &Scene<'_>, actions: &mut Vec<Action>) {
    let steps = [("Choose a target", Action::PickTarget), ("Start a program", path_dialog(Wanted::Program))];
    let command = Some("reload-dashboard run -- COMMAND");
    let text = "Choose a running process, or start a program with live reload:";
    page(ui, icons::DETACHED, "Not attached", text, command, &steps, actions);
    let offers = offers(scene);
    if offers.is_empty() {
        return;
    }
    ui.add_space(20.0);
    ui.vertical_centered(|ui| {
        ui.set_max_width(ui.available_width().min(520.0));
        ui.spacing_mut().item_spacing.y = 2.0;
        for offer in offers {
            if chooser::line(ui, &offer, false).1 {
                actions.push(offer.value.clone());
            }
        }
    });
}

/// What runs and can be attached, the last target first, and what the user's file knows how to start.
fn offers(scene: &Scene<'_>) -> Vec<Entry<Action>> {
    let last = scene.settings.last_program.as_deref();
    let program = |exe: &std::path::Path| config::program_name(exe);
    // Another dashboard can be chosen, too, but is hardly what somebody looks for here.
    let is_offered =
        |candidate: &&Candidate| candidate.attachable.is_ok() && program(&candidate.exe) != env!("CARGO_PKG_NAME");
    let mut running: Vec<_> = scene.candidates.iter().filter(is_offered).collect();
    running.sort_by_key(|candidate| Some(program(&candidate.exe).as_str()) != last);
    let attach = running.iter().map(|candidate| {
        let label = format!("Attach to {} · {}", candidate.name, candidate.pid);
        let mut entry = Entry::new(Action::Open(candidate.pid), icons::TARGET, label);
        entry.detail = candidate.exe.display().to_string();
        entry
    });
    let mut known: Vec<_> =
        scene.file.config.program.iter().filter(|(_, program)| !program.launch.is_empty()).collect();
    known.sort_by_key(|(name, _)| Some(name.as_str()) != last);
    let start = known.into_iter().map(|(name, program)| {
        let mut entry = Entry::new(Action::Launch(program.launch.clone()), icons::START, format!("Start {name}"));
        entry.detail = program.launch.join(" ");
        entry
    });
    attach.take(OFFERED / 2).chain(start).take(OFFERED).collect()
}

fn page(
    ui: &mut Ui,
    icon: char,
    title: &str,
    text: &str,
    command: Option<&str>,
    steps: &[(&str, Action)],
    actions: &mut Vec<Action>,
) {
    let palette = palette(ui);
    ui.vertical_centered(|ui| {
        ui.add_space((ui.available_height() * 0.26).max(16.0));
        ui.set_max_width(ui.available_width().min(520.0));
        controls::icon(ui, icon, icons::outline(44.0), palette.text_weak);
        ui.add_space(4.0);
        ui.label(RichText::new(title).font(theme::title()).color(palette.text));
        ui.label(passage::text(text, [theme::body(), theme::code()], palette.text_secondary));
        if let Some(command) = command {
            ui.add_space(2.0);
            let frame =
                Frame::NONE.fill(palette.raised).corner_radius(theme::RADIUS).inner_margin(Margin::symmetric(12, 7));
            frame.stroke(Stroke::new(1.0, palette.line)).show(ui, |ui| {
                let size = vec2(ui.available_width(), 20.0);
                ui.allocate_ui_with_layout(size, Layout::right_to_left(Align::Center), |ui| {
                    if Button::icon(icons::COPY, "Copy the command").height(20.0).show(ui).clicked() {
                        actions.push(Action::Copy(command.to_owned()));
                    }
                    ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                        ui.label(RichText::new(command).font(theme::code()).color(palette.text));
                    });
                });
            });
        }
        ui.add_space(10.0);
        // Buttons side by side in the middle: their widths are known only after they were laid out once.
        let id = ui.scope_id().with("steps");
        let width = ui.data(|data| data.get_temp::<f32>(id)).unwrap_or(0.0);
        let size = vec2(ui.available_width(), theme::CONTROL);
        ui.allocate_ui_with_layout(size, Layout::left_to_right(Align::Center), |ui| {
            ui.add_space(((size.x - width) / 2.0).max(0.0));
            let start = ui.cursor().left();
            for (position, (label, action)) in steps.iter().enumerate() {
                // Giving up is never what one is led to.
                let leads = position == 0 && !matches!(action, Action::Close(_));
                let weight = if leads { Weight::Primary } else { Weight::Normal };
                if Button::new(label).weight(weight).show(ui).clicked() {
                    actions.push(action.clone());
                }
            }
            let used = ui.min_rect().right() - start;
            if (used - width).abs() > 0.5 {
                ui.data_mut(|data| data.insert_temp(id, used));
                ui.ctx().request_discard("centred buttons");
            }
        });
    });
}

/// Lines above the table: the target went away, or something could not be done.
pub fn banners(ui: &mut Ui, scene: &Scene<'_>, actions: &mut Vec<Action>) {
    let Some(tab) = scene.tab() else {
        return;
    };
    let palette = palette(ui);
    if let Some(snapshot) = &tab.snapshot {
        let retry = ("Attach again", Action::Retry);
        let other = ("Choose another target", Action::PickTarget);
        match (&tab.link, &snapshot.connection) {
            (Link::Opening, _) => {
                banner(ui, "connection", icons::DETACHED, palette.reloading, &opening(tab), &[], &[other], actions);
            }
            (Link::Refused { gone: true, .. }, _) => ended(ui, tab, snapshot, None, actions),
            (Link::Refused { message, detail, .. }, _) => {
                let text = format::sentence(message);
                banner(ui, "connection", icons::WARNING, palette.failed, &text, detail, &[retry, other], actions);
            }
            (Link::Closed, _) => {
                let text = "Connection lost: the session has ended. The program runs on as it is.";
                banner(ui, "connection", icons::WARNING, palette.failed, text, &[], &[retry, other], actions);
            }
            (Link::Open(_), Connection::Attached) => {}
            (Link::Open(_), Connection::Detached) => {
                let text = "Detached. The program keeps its current generations; nothing is reloaded.";
                let attach = ("Attach again", Action::Attach);
                banner(ui, "connection", icons::DETACHED, palette.changed, text, &[], &[attach, other], actions);
            }
            (Link::Open(_), Connection::Exited(status)) => ended(ui, tab, snapshot, *status, actions),
            (Link::Open(_), Connection::Lost(reason)) => {
                let text = format!("Connection lost: {reason}. The program runs on as it is.");
                banner(ui, "connection", icons::WARNING, palette.failed, &text, &[], &[retry, other], actions);
            }
        }
    }
    if !tab.forked.is_empty() && tab.is_live() {
        let name = &tab.name;
        let (text, open) = match tab.forked.as_slice() {
            [pid] => (format!("{name} has forked process {pid}, a target of its own."), "Follow it"),
            several => (format!("{name} has forked {} processes, targets of their own.", several.len()), "Follow them"),
        };
        let steps = [(open, Action::Follow(tab.forked.clone())), ("Leave alone", Action::DismissForks)];
        banner(ui, "forks", icons::FORKED, palette.reloading, &text, &[], &steps, actions);
    }
    if let Some(notice) = &tab.notice {
        let colour = if notice.failed { palette.failed } else { palette.changed };
        let mut steps = vec![("Dismiss", Action::DismissNotice)];
        if notice.again.is_some() && tab.is_live() {
            steps.insert(0, ("Repeat the command", Action::TryAgain));
        }
        let text = format::sentence(&notice.message);
        banner(ui, "notice", icons::WARNING, colour, &text, &notice.detail, &steps, actions);
    }
}

/// The target has ended, perhaps by a crash.
fn ended(ui: &mut Ui, tab: &TargetTab, snapshot: &Snapshot, status: Option<i32>, actions: &mut Vec<Action>) {
    let palette = palette(ui);
    let signal = signal_of(status);
    let crashed = signal.is_some_and(is_crash);
    let how = match (status, signal) {
        (Some(0), _) => " normally".to_owned(),
        (_, Some(signal)) => format!(" by {}", signal_name(signal)),
        (Some(code), _) => format!(" with status {code}"),
        (None, _) => String::new(),
    };
    let mut headline = format!("{} has ended{how}.", tab.name);
    let mut detail = Vec::new();
    if crashed && let Some((entry, after)) = tab.ended_at.and_then(|end| last_reload(snapshot, end)) {
        let (name, generation) = (&entry.receipt.name, entry.receipt.generation);
        let after = format::seconds(after);
        detail.push(format!("{name} had gone to generation {generation}, {after} before: look at its changes first."));
    }
    let mut steps = vec![("Choose another target", Action::PickTarget)];
    if tab.command.is_empty() {
        headline.push_str(" Once `reload-dashboard run` starts it again, it is attached with these marks.");
    } else {
        detail.push("Its marks, skips and mode wait for it.".to_owned());
        steps.insert(0, ("Start again", Action::Launch(tab.command.clone())));
    }
    let (icon, colour) =
        if crashed { (icons::CRASHED, palette.failed) } else { (icons::EXITED, palette.text_secondary) };
    banner(ui, "connection", icon, colour, &headline, &detail, &steps, actions);
}

/// The last reload or rollback before `end`, and how long before; `None` where that was too long ago to matter.
fn last_reload(snapshot: &Snapshot, end: SystemTime) -> Option<(&HistoryEntry, Duration)> {
    let entries = snapshot.modules.iter().flat_map(|module| module.history.iter().map(Arc::as_ref));
    let done = entries.filter(|entry| entry.receipt.outcome == Outcome::Reloaded && entry.time <= end);
    let last = done.max_by_key(|entry| entry.time)?;
    let before = end.duration_since(last.time).ok()?;
    (before <= SUSPICIOUS).then_some((last, before))
}

#[expect(clippy::too_many_arguments, reason = "each is one visible part of the line")]
fn banner(
    ui: &mut Ui,
    id: &str,
    icon: char,
    colour: Color32,
    text: &str,
    detail: &[String],
    steps: &[(&str, Action)],
    actions: &mut Vec<Action>,
) {
    let palette = palette(ui);
    let fill = palette.tinted(colour, palette.canvas);
    let frame = Frame::NONE.fill(fill).inner_margin(Margin::symmetric(theme::GUTTER as i8, 7));
    // A panel by itself grows with its content, but keeps its height when that becomes less.
    let last = Id::unique(("banner height", id));
    let height = ui.data(|data| data.get_temp::<f32>(last)).unwrap_or(theme::CONTROL);
    let mut needed = theme::CONTROL;
    let panel = Panel::top(("banner", id)).frame(frame).exact_size(height + frame.total_margin().sum().y);
    let rect = panel.show_separator_line(false).show(ui, |ui| {
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            for (label, action) in steps.iter().rev() {
                if Button::new(label).show(ui).clicked() {
                    actions.push(action.clone());
                }
            }
            ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                controls::icon(ui, icon, icons::outline(18.0), colour);
                let headline = passage::text(text, [theme::body(), theme::code()], palette.text);
                if detail.is_empty() {
                    // Wrapped by itself: beside an icon text would run on, below the buttons.
                    let label = ui.add(Label::new(headline).wrap());
                    needed = needed.max(label.rect.height());
                    return;
                }
                let lines = ui.vertical(|ui| {
                    ui.spacing_mut().item_spacing.y = 1.0;
                    ui.label(headline);
                    for line in detail {
                        let fonts = [theme::small(), theme::code_small()];
                        ui.label(passage::text(line, fonts, palette.text_secondary));
                    }
                });
                needed = needed.max(lines.response.rect.height());
            });
        });
    });
    if needed != height {
        ui.data_mut(|data| data.insert_temp(last, needed));
        ui.ctx().request_discard("height of a banner");
    }
    let rect = rect.response.rect;
    ui.painter().hline(rect.x_range(), rect.bottom() - 0.5, Stroke::new(1.0, palette.line));
}
