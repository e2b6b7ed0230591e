//! The floor as a tool beside the program would have it: another process watches the file, reads the new one against the old
//! one, and tells the program to close the library and open it. What a machine makes dear that has other things to do (waking
//! up, memory) is in that as it is in the tool, and next to nothing of it in the floor itself.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    path::Path,
    process::{self, Command, ExitCode, Stdio},
    sync::Mutex,
    thread,
};

use crossbeam_channel::bounded;
use notify::{
    EventKind, RecursiveMode, Watcher,
    event::{ModifyKind, RenameMode},
};

use crate::floor;

/// The hidden first argument of the program; the library's path follows.
pub const PROGRAM: &str = "__watched";
/// That of its watcher.
pub const WATCHER: &str = "__watcher";

/// How often a program is asked and answers in a reload: to load, to stage, to begin, to commit.
const MESSAGES: usize = 4;
/// One.
const MESSAGE: &[u8] = b"\n";

/// Starts its watcher, and opens the library anew with the last message of each reload.
pub fn program(library: &OsString) -> ExitCode {
    let mut watcher = Command::new(env::current_exe().expect("procfs is mounted"))
        .args([OsString::from(WATCHER), library.clone()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this very program can be started");
    let (mut answers, mut questions) = (watcher.stdin.take().expect("piped"), watcher.stdout.take().expect("piped"));
    thread::spawn(move || {
        let ended = watcher.wait();
        eprintln!("the watcher has ended: {ended:?}");
        process::exit(1);
    });
    // It has begun to watch, whatever it says.
    let mut message = [0];
    questions.read_exact(&mut message).expect("the watcher lives");

    let loaded: &Mutex<floor::Opened> = Box::leak(Box::new(Mutex::new(floor::open(library))));
    let path = library.clone();
    thread::spawn(move || {
        for number in 1.. {
            questions.read_exact(&mut message).expect("the watcher lives");
            if number % MESSAGES == 0 {
                floor::reopen(&mut loaded.lock().expect("nobody panics"), &path);
            }
            answers.write_all(MESSAGE).expect("the watcher lives");
        }
    });
    floor::call_in_turn(|| floor::value(&loaded.lock().expect("nobody panics")))
}

/// Ends with the program.
pub fn watcher(library: &OsString) -> ExitCode {
    // SAFETY: asks for a signal (PR_SET_PDEATHSIG(2const)).
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let library = Path::new(library);
    let (wake, woken) = bounded(1);
    let own = library.to_owned();
    let handler = move |event: notify::Result<notify::Event>| {
        let event = event.expect("the folder can be watched");
        if event.kind == EventKind::Modify(ModifyKind::Name(RenameMode::To)) && event.paths.contains(&own) {
            // One that nobody has heeded yet stands for this too.
            let _ = wake.try_send(());
        }
    };
    let mut inotify = notify::recommended_watcher(handler).expect("inotify");
    inotify.watch(library.parent().expect("in a folder"), RecursiveMode::NonRecursive).expect("it can be watched");
    let mut content = Content::default();
    content.read_on(library);
    say();
    for () in woken {
        content.read_on(library);
        for _ in 0..MESSAGES {
            say();
            if io::stdin().read_exact(&mut [0]).is_err() {
                return ExitCode::SUCCESS;
            }
        }
    }
    ExitCode::SUCCESS
}

fn say() {
    let mut output = io::stdout();
    output.write_all(MESSAGE).and_then(|()| output.flush()).expect("the program lives");
}

/// A file by halves, and as it was before.
#[derive(Default)]
struct Content([[Vec<u8>; 2]; 2]);

impl Content {
    /// Reads the file into the place of its last version but one, and compares it with the last; a thread per half.
    fn read_on(&mut self, path: &Path) -> usize {
        let file = File::open(path).expect("a complete library");
        let half = file.metadata().expect("an open file").len() as usize / 2;
        let read_half = |index: usize, versions: &mut [Vec<u8>; 2]| {
            let [new, old] = versions;
            new.resize(half, 0);
            file.read_exact_at(new, (index * half) as u64).expect("a complete library");
            let different = new.chunks(8).zip(old.chunks(8)).filter(|(new, old)| new != old).count();
            versions.swap(0, 1);
            different
        };
        let [first, second] = &mut self.0;
        thread::scope(|scope| {
            let other = scope.spawn(|| read_half(1, second));
            read_half(0, first) + other.join().expect("it does not panic")
        })
    }
}
