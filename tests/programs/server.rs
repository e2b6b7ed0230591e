//! A small HTTP server: every connection is a task that lives through all versions.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

static SERVED: AtomicU64 = AtomicU64::new(0);

#[derive(Default)]
struct Sessions {
    requests: HashMap<u64, u64>,
}

fn version() -> u64 {
    1
}

async fn count(sessions: &Mutex<Sessions>, connection: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut sessions = sessions.lock().unwrap();
    let requests = sessions.requests.entry(connection).or_default();
    *requests += 1;
    *requests
}

async fn answer(sessions: &Mutex<Sessions>, connection: u64) -> String {
    let requests = count(sessions, connection).await;
    let served = SERVED.fetch_add(1, Relaxed) + 1;
    format!("version={} inside=1 requests={requests} served={served}\n", version())
}

async fn serve(mut stream: TcpStream, sessions: Arc<Mutex<Sessions>>, connection: u64) -> std::io::Result<()> {
    let mut input = Vec::new();
    loop {
        while !input.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
        }
        input.clear();
        let body = answer(&sessions, connection).await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).await?;
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("port={}", listener.local_addr().unwrap().port());
    let sessions = Arc::new(Mutex::new(Sessions::default()));
    let mut input = tokio::io::stdin();
    let mut end = [0];
    for connection in 0.. {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            _ = input.read(&mut end) => return,
        };
        tokio::spawn(serve(stream, sessions.clone(), connection));
    }
}
