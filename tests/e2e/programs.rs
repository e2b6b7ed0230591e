//! Attaching to programs from Debian's packages, which nobody here wrote: each twenty times, always a fresh one, which then
//! works on.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use reload_tests::{
    dashboard::{Room, told},
    deadline::wait_for,
    process,
    stranger::{self, Stranger},
};

const TIMES: u32 = 20;

/// Attaches to fresh programs that answer each line of their input with one line that begins with `>`.
fn interpreter(program: &str, arguments: &[&str], question: &str, answer: &str) {
    for round in 0..TIMES {
        let room = Room::new();
        let mut target = Stranger::start(&room, program, arguments);
        assert_eq!(target.ask(question), answer, "before");
        let output = target.verb(&["attach"]);
        assert!(output.status.success(), "round {round}: {}", told(&output));
        for _ in 0..3 {
            assert_eq!(target.ask(question), answer, "round {round}");
        }
    }
}

const ANSWER: &str = "import sys\nfor line in sys.stdin: print('>' + str(eval(line)), flush=True)\n";
const PYTHON: &str = "/usr/bin/python3";

#[test]
fn python_idle() {
    interpreter(PYTHON, &["-c", ANSWER], "6 * 7", "42");
}

#[test]
fn python_busy() {
    let script = "import select, sys\nx = {}\nwhile True:\n  x = {str(i): [i] * 3 for i in range(1000)}\n  \
                  if select.select([sys.stdin], [], [], 0)[0]: print('>' + str(eval(sys.stdin.readline() or 'exit()')), flush=True)\n";
    interpreter(PYTHON, &["-c", script], "len(x)", "1000");
}

#[test]
fn python_with_many_threads() {
    let script = format!(
        "import threading, time, hashlib\n\
         def work():\n  while True:\n    hashlib.sha256(b'x' * 100000); time.sleep(0.001)\n\
         for _ in range(24): threading.Thread(target=work, daemon=True).start()\n{ANSWER}"
    );
    interpreter(PYTHON, &["-c", &script], "threading.active_count()", "25");
}

#[test]
fn python_that_closes_every_descriptor_keeps_its_agent() {
    let room = Room::new();
    let mut target = Stranger::start(&room, PYTHON, &["-c", ANSWER]);
    assert_eq!(target.ask("__import__('os').dup(0)"), "3");
    target.done(&["attach"]);
    assert_eq!(target.ask("__import__('os').dup(0)"), "4", "the lowest free number is what it was");
    assert_eq!(target.ask("__import__('os').closerange(3, 65536)"), "None");
    target.done(&["list"]);
    assert_eq!(target.ask("__import__('os').dup(0)"), "3");
}

#[test]
fn node() {
    let script = "setInterval(() => JSON.stringify(Array(100).fill({a: 1})), 1);\
                  require('readline').createInterface({input: process.stdin}).on('line', line => console.log('>' + eval(line)))";
    interpreter("node", &["-e", script], "6 * 7", "42");
}

#[test]
fn bash() {
    interpreter("bash", &["--norc", "-c", "while read -r line; do echo \">$((line))\"; done"], "6 * 7", "42");
}

#[test]
fn sqlite() {
    interpreter("sqlite3", &[], "select '>' || (6 * 7);", "42");
}

/// What a server on a socket in the file system answers.
fn asked(socket: &Path, question: &str) -> String {
    let mut stream = wait_for("the server to listen", || UnixStream::connect(socket).ok());
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream.write_all(question.as_bytes()).expect("it reads");
    let mut answer = vec![0; 64];
    let read = stream.read(&mut answer).expect("it answers");
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[test]
fn redis_server() {
    for round in 0..TIMES {
        let room = Room::new();
        let socket = room.path().join("redis.sock");
        let path = socket.display().to_string();
        let target = Stranger::start(&room, "redis-server", &["--port", "0", "--unixsocket", &path, "--save", ""]);
        assert_eq!(asked(&socket, "PING\r\n"), "+PONG\r\n");
        let output = target.verb(&["attach"]);
        assert!(output.status.success(), "round {round}: {}", told(&output));
        for _ in 0..3 {
            assert_eq!(asked(&socket, "PING\r\n"), "+PONG\r\n", "round {round}");
        }
    }
}

#[test]
fn nginx_master_and_worker() {
    for round in 0..TIMES {
        let room = Room::new();
        let folder = room.path().display();
        let socket = room.path().join("nginx.sock");
        let user = if reload_tests::skip::is_root() { "user root;" } else { "" };
        let configuration = format!(
            "{user} daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;\n\
             events {{}} http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
             fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n\
             server {{ listen unix:{folder}/nginx.sock; location / {{ return 204; }} }} }}"
        );
        fs::write(room.path().join("nginx.conf"), configuration).expect("the room is ours");
        let (prefix, file) = (folder.to_string(), format!("{folder}/nginx.conf"));
        let error_log = format!("{folder}/error.log");
        let target = Stranger::start(&room, "/usr/sbin/nginx", &["-p", &prefix, "-c", &file, "-e", &error_log]);
        let question = "GET / HTTP/1.0\r\n\r\n";
        assert!(asked(&socket, question).contains("204"), "before");
        let family = process::family(target.pid());
        assert_eq!(family.len(), 2, "a master and a worker");
        for &pid in &family {
            let output = stranger::verb(&room, pid, &["attach"]);
            assert!(output.status.success(), "round {round}: {}", told(&output));
        }
        for _ in 0..3 {
            assert!(asked(&socket, question).contains("204"), "round {round}");
        }
        // The master still looks after its worker.
        process::end(family[1]);
        wait_for("a new worker", || process::family(target.pid()).get(1).copied().filter(|&pid| pid != family[1]));
        assert!(asked(&socket, question).contains("204"), "round {round}");
        for member in process::family(target.pid()) {
            process::end(member);
        }
    }
}
