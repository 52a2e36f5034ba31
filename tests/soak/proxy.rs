//! What lies between a client and a broker, and can be disturbed.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PASS: u8 = 0;
const STALL: u8 = 1;
const THROTTLE: u8 = 2;

pub struct Proxy {
    port: u16,
    line: Arc<Line>,
}

#[derive(Default)]
struct Line {
    target: AtomicU16,
    mode: AtomicU8,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (port, line) = (listener.local_addr().expect("its port").port(), Arc::<Line>::default());
        let shared = line.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let far = TcpStream::connect(("127.0.0.1", shared.target.load(Ordering::Relaxed)));
                let Ok(far) = far else { continue };
                let mut open = shared.open.lock().expect("no holder panics");
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
                    let line = shared.clone();
                    std::thread::spawn(move || line.carry(from, to));
                }
                open.extend([near, far]);
            }
        });
        Self { port, line }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn lead_to(&self, port: u16) {
        self.line.target.store(port, Ordering::Relaxed);
    }

    /// Breaks all connections.
    pub fn cut(&self) {
        for stream in self.line.open.lock().expect("no holder panics").drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Nothing passes for a while.
    pub fn stall(&self, time: Duration) {
        self.disturb(STALL, time);
    }

    /// Little passes for a while.
    pub fn throttle(&self, time: Duration) {
        self.disturb(THROTTLE, time);
    }

    fn disturb(&self, mode: u8, time: Duration) {
        self.line.mode.store(mode, Ordering::Relaxed);
        std::thread::sleep(time);
        self.line.mode.store(PASS, Ordering::Relaxed);
    }
}

impl Line {
    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 16 * 1024];
        loop {
            let most = if self.mode.load(Ordering::Relaxed) == THROTTLE { 1024 } else { buffer.len() };
            let Ok(count @ 1..) = from.read(&mut buffer[..most]) else { break };
            while self.mode.load(Ordering::Relaxed) == STALL {
                std::thread::sleep(Duration::from_millis(5));
            }
            if self.mode.load(Ordering::Relaxed) == THROTTLE {
                // 50 KiB a second.
                std::thread::sleep(Duration::from_millis(20));
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}
