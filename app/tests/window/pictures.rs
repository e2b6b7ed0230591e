//! Pictures of the window in its states, sizes and themes, compared with those in `pictures/`. After a change that is meant,
//!
//! ```sh
//! UPDATE_PICTURES=1 cargo test -p reload-dashboard --test window pictures
//! ```
//!
//! draws them anew; look at every one that differs before committing it.

use std::{
    cmp::Reverse,
    collections::HashMap,
    env, fs,
    io::BufWriter,
    path::{Path, PathBuf},
    time::Duration,
};

use eframe::egui::{Key, Modifiers, Theme, Vec2, vec2};
use image::{DynamicImage, RgbImage};
use reload_dashboard::{
    window::{Link, TargetTab},
    worker::{NoDialog, Reply, Wanted},
};
use reload_engine::{
    error::Error,
    model::{Connection, HistoryEntry, Outcome, Snapshot, Stage, Status},
    session::{Event, Update},
};

use crate::{
    contrast::assert_readable,
    peer::{NARROW, Peer, WIDE, Window},
    sample, targets,
};

const CTRL: Modifiers = Modifiers::COMMAND;
const SMALL: Vec2 = vec2(640.0, 560.0);
const BARE: Vec2 = vec2(900.0, 480.0);
const MIDDLE: Vec2 = vec2(1100.0, 640.0);

/// A channel may differ by so much, and so many of ten thousand pixels by more: the kept pictures have few colours, and
/// another compiler may round otherwise.
const TOLERANCE: u8 = 20;
const OUTLIERS: usize = 4;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/window/pictures")
}

/// Compares what the window shows with the picture of that name.
#[track_caller]
fn look(window: &mut Window, name: &str) {
    assert_readable(window, name);
    let drawn = DynamicImage::from(window.picture()).into_rgb8();
    let reference = folder().join(format!("{name}.png"));
    if env::var_os("UPDATE_PICTURES").is_some() {
        return keep(&drawn, &reference);
    }
    let failed = |reason: String| -> ! {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("window");
        fs::create_dir_all(&kept).unwrap();
        let kept = kept.join(format!("{name}.png"));
        keep(&drawn, &kept);
        panic!("{name}: {reason}; the window now looks like {}", kept.display());
    };
    let expected = match image::open(&reference) {
        Ok(image) => image.into_rgb8(),
        Err(error) => failed(format!("{}: {error}", reference.display())),
    };
    if drawn.dimensions() != expected.dimensions() {
        failed(format!("{:?} instead of {:?}", drawn.dimensions(), expected.dimensions()));
    }
    let differs =
        |(a, b): &(&image::Rgb<u8>, &image::Rgb<u8>)| a.0.iter().zip(b.0).any(|(a, b)| a.abs_diff(b) > TOLERANCE);
    let outliers = drawn.pixels().zip(expected.pixels()).filter(differs).count();
    if outliers * 10_000 > OUTLIERS * (drawn.width() * drawn.height()) as usize {
        failed(format!("{outliers} pixels differ"));
    }
}

/// Writes a picture with the 256 colours it has most of, the others as the nearest of these: a quarter of the bytes.
fn keep(image: &RgbImage, path: &Path) {
    let mut counts: HashMap<[u8; 3], usize> = HashMap::new();
    for pixel in image.pixels() {
        *counts.entry(pixel.0).or_default() += 1;
    }
    let mut colours: Vec<([u8; 3], usize)> = counts.into_iter().collect();
    // The same picture is to be the same bytes.
    colours.sort_by_key(|(colour, count)| (Reverse(*count), *colour));
    let distance = |a: [u8; 3], b: [u8; 3]| -> u32 { (0..3).map(|i| u32::from(a[i].abs_diff(b[i])).pow(2)).sum() };
    let mut palette: Vec<[u8; 3]> = Vec::new();
    for (colour, _) in &colours {
        if palette.len() < 256 && palette.iter().all(|chosen| distance(*chosen, *colour) > 30) {
            palette.push(*colour);
        }
    }
    let nearest = |colour: [u8; 3]| -> u8 {
        let found = (0..palette.len()).min_by_key(|position| distance(palette[*position], colour));
        u8::try_from(found.unwrap_or_default()).expect("256 colours")
    };
    let indexes: HashMap<[u8; 3], u8> = colours.iter().map(|(colour, _)| (*colour, nearest(*colour))).collect();
    let bytes: Vec<u8> = image.pixels().map(|pixel| indexes[&pixel.0]).collect();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut encoder = png::Encoder::new(BufWriter::new(fs::File::create(path).unwrap()), image.width(), image.height());
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_palette(palette.concat());
    encoder.set_compression(png::Compression::High);
    encoder.set_filter(png::Filter::NoFilter);
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&bytes)).unwrap();
}

const THEMES: [(Theme, &str); 2] = [(Theme::Dark, "dark"), (Theme::Light, "light")];

fn window(size: Vec2, theme: Theme) -> Window {
    Window::sized(sample::snapshot(), size, theme)
}

/// Without a target, or with one of which nothing is known yet.
fn bare(tabs: Vec<TargetTab>, theme: Theme) -> Window {
    Window::build(tabs, None, sample::snapshot(), BARE, theme)
}

#[test]
fn wide_narrow_and_smallest() {
    for (theme, word) in THEMES {
        look(&mut window(WIDE, theme), &format!("wide-{word}"));
        look(&mut window(NARROW, theme), &format!("narrow-{word}"));
        look(&mut window(SMALL, theme), &format!("smallest-{word}"));
    }
}

#[test]
fn twice_as_many_pixels() {
    for (theme, word) in THEMES {
        for (size, name) in [(WIDE, "wide"), (NARROW, "narrow"), (SMALL, "smallest")] {
            let (session, peer) = Peer::new();
            let tab = TargetTab::new(48213, "aurora", Link::Open(session));
            peer.updates.send(Update::Snapshot(std::sync::Arc::new(sample::snapshot()))).unwrap();
            let mut window = Window::scaled(vec![tab], Some(peer), sample::snapshot(), (size, 2.0), theme);
            look(&mut window, &format!("{name}-twice-{word}"));
        }
    }
}

/// A reload that takes long: outside of the program first, where it can be cancelled, then inside.
#[test]
fn a_reload_under_way() {
    for (theme, word) in THEMES {
        for (stage, size, name) in
            [(Stage::Plan, MIDDLE, "outside"), (Stage::Bind, NARROW, "inside"), (Stage::Stop, SMALL, "stopping")]
        {
            let mut window = window(size, theme);
            let progress = window.peer.as_ref().unwrap().progress.clone();
            let underway = progress.begin("librender_passes.so", false);
            match stage {
                Stage::Plan => underway.enter(stage).unwrap(),
                _ => underway.go_on(stage),
            }
            for _ in 0..4 {
                window.key(Key::ArrowDown);
            }
            sample::wait(Duration::from_secs(12));
            window.run();
            look(&mut window, &format!("{name}-{word}"));
        }
    }
}

#[test]
fn traces_of_a_missing_file_and_of_what_was_put_back() {
    for (theme, word) in THEMES {
        let mut window = window(MIDDLE, theme);
        window.click("libanim_blend.so, Missing");
        look(&mut window, &format!("missing-{word}"));
        window.update(sample::put_back);
        window.click("libecs.so, Refused");
        look(&mut window, &format!("put-back-{word}"));
    }
}

#[test]
fn dialogs() {
    for (theme, word) in THEMES {
        let mut window = window(MIDDLE, theme);
        window.candidates(targets::candidates());
        window.keys(CTRL, Key::K);
        look(&mut window, &format!("palette-{word}"));
        window.key(Key::Escape);
        window.text("?");
        look(&mut window, &format!("help-{word}"));
        window.key(Key::Escape);
        window.keys(CTRL, Key::T);
        look(&mut window, &format!("targets-{word}"));
        window.key(Key::Escape);
        window.click("libsave_format.so, Refused");
        look(&mut window, &format!("refused-{word}"));
        window.click("Reload anyway…");
        look(&mut window, &format!("anyway-{word}"));
        window.key(Key::Escape);
        window.keys(CTRL, Key::O);
        window.click("Browse");
        window.replies.send(Reply::Picked { wanted: Wanted::Library, answer: Err(NoDialog) }).unwrap();
        window.run();
        window.text("/home/ada/aurora/build/plugins/libnew.so");
        look(&mut window, &format!("load-{word}"));
    }
}

#[test]
fn tabs_of_the_details() {
    for (theme, word) in THEMES {
        let mut window = window(MIDDLE, theme);
        window.click("libecs.so, Current");
        window.keys(CTRL, Key::Num2);
        look(&mut window, &format!("changes-{word}"));
        window.keys(CTRL, Key::Num4);
        look(&mut window, &format!("info-{word}"));
        let mut window = self::window(WIDE, theme);
        window.keys(CTRL, Key::Num3);
        window.click("Reloaded, generation 41, 57 ms, 10 s ago, in the picture");
        look(&mut window, &format!("history-{word}"));
    }
}

#[test]
fn states_without_a_table() {
    for (theme, word) in THEMES {
        let mut window = bare(Vec::new(), theme);
        window.candidates(targets::candidates());
        window.file("[program.aurora]\nlaunch = ['./build/aurora', '--level', '3']");
        look(&mut window, &format!("not-attached-{word}"));
        let mut window = bare(vec![TargetTab::new(9, "daemon", Link::Opening)], theme);
        look(&mut window, &format!("attaching-{word}"));
        window.replies.send(Reply::Opened { pid: 9, session: Err(Error::NotPermitted { pid: 9 }) }).unwrap();
        window.run();
        look(&mut window, &format!("not-permitted-{word}"));
        let mut window = bare(vec![TargetTab::new(9, "daemon", Link::Opening)], theme);
        let error = Error::ProtocolVersion { pid: 9, found: 3, expected: 4 };
        window.replies.send(Reply::Opened { pid: 9, session: Err(error) }).unwrap();
        window.run();
        look(&mut window, &format!("incompatible-{word}"));
        let mut window = self::window(MIDDLE, theme);
        window.keys(CTRL, Key::F);
        window.text("nowhere");
        look(&mut window, &format!("no-match-{word}"));
        let empty = Snapshot { modules: Vec::new(), ..sample::snapshot() };
        look(&mut Window::sized(empty, BARE, theme), &format!("no-modules-{word}"));
    }
}

#[test]
fn states_above_the_table() {
    for (theme, word) in THEMES {
        let mut window = window(MIDDLE, theme);
        window.file("[program.aurora]\nlaunch = ['./build/aurora']");
        window.send(Update::Event { time: sample::now(), event: Event::Exited { status: Some(139) } });
        window.update(|snapshot| snapshot.connection = Connection::Exited(Some(139)));
        look(&mut window, &format!("crashed-{word}"));
        let mut window = self::window(NARROW, theme);
        window.update(|snapshot| snapshot.connection = Connection::Detached);
        look(&mut window, &format!("detached-{word}"));
        window.update(|snapshot| snapshot.connection = Connection::Lost("broken pipe".to_owned()));
        look(&mut window, &format!("lost-{word}"));
    }
}

#[test]
fn another_controller_and_a_module_that_recovered() {
    for (theme, word) in THEMES {
        let mut window = window(MIDDLE, theme);
        window.key(Key::F5);
        let message = Error::Busy { pid: 48213 }.to_string();
        window.send(Update::CommandFailed { command: window.ordered(), message, detail: Vec::new() });
        window.update(|snapshot| {
            let physics = snapshot.modules.iter_mut().find(|module| module.name == "libphysics.so");
            let physics = physics.expect("of the sample");
            let done = physics.history.iter().rev().find(|entry| entry.receipt.outcome == Outcome::Reloaded);
            let again = HistoryEntry { time: sample::now(), ..done.expect("of the sample").as_ref().clone() };
            physics.history.push(again.into());
            (physics.status, physics.failure) = (Status::Current, None);
        });
        window.click("libphysics.so, Current");
        window.assert_sees("Recovered");
        look(&mut window, &format!("recovered-{word}"));
    }
}

#[test]
fn several_targets_and_news() {
    for (theme, word) in THEMES {
        let mut window = window(MIDDLE, theme);
        window.candidates(targets::candidates());
        window.keys(CTRL, Key::T);
        window.click("demo · 4711, /home/ada/demo");
        window.keys(CTRL, Key::PageDown);
        let message = "fs.inotify.max_user_watches is used up: raise it with sysctl".to_owned();
        window.send(Update::Event { time: sample::now(), event: Event::Notice { message } });
        window.send(Update::Event { time: sample::now(), event: Event::Forked { pid: 48_300 } });
        let recovered = Event::Recovered { module: "libecs.so".to_owned() };
        window.send(Update::Event { time: sample::now(), event: recovered });
        window.replies.send(Reply::Failed("there is no editor known here; set $VISUAL".to_owned())).unwrap();
        window.run();
        window.keys(CTRL, Key::K);
        window.text("compact");
        window.key(Key::Enter);
        look(&mut window, &format!("several-{word}"));
    }
}

/// What has just happened is told, and its details can be read.
#[test]
fn news_above_the_details() {
    for (theme, word) in THEMES {
        let mut window = window(NARROW, theme);
        let recovered = Event::Recovered { module: "libecs.so".to_owned() };
        window.send(Update::Event { time: sample::now(), event: recovered });
        window.replies.send(Reply::Failed("there is no editor known here; set $VISUAL".to_owned())).unwrap();
        window.run();
        look(&mut window, &format!("news-{word}"));
    }
}

/// Names longer than any column, and letters of other alphabets.
#[test]
fn names_that_do_not_fit() {
    for (theme, word) in THEMES {
        let mut snapshot = sample::snapshot();
        snapshot.target.name = "a-program-with-a-name-that-goes-on-and-on".to_owned();
        let long = format!("lib{}.so", "extraordinarily_long_".repeat(6));
        let path = format!("/home/ada/{}{long}", "deep/inside/of/a/folder/".repeat(8));
        for (position, name) in [(0, long.as_str()), (1, "libфизика_και_φως.so"), (2, "l.so")] {
            snapshot.modules[position].name = name.to_owned();
            snapshot.modules[position].path =
                if position == 0 { path.clone().into() } else { sample::path(name).into() };
        }
        let failure = snapshot.modules[0].failure.as_mut().expect("of the sample");
        for line in failure.trace.iter_mut().chain([&mut failure.message]) {
            *line = line.replace("libphysics.so", &long).replace(&sample::path(&long), &path);
        }
        look(&mut Window::sized(snapshot, NARROW, theme), &format!("long-names-{word}"));
    }
}
