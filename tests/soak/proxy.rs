//! A TCP proxy between clients and a broker that can disturb their connections.

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
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    target_port: AtomicU16,
    mode: AtomicU8,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (port, shared) = (listener.local_addr().expect("its port").port(), Arc::<Shared>::default());
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let broker = TcpStream::connect(("127.0.0.1", accepting.target_port.load(Ordering::Relaxed)));
                let Ok(broker) = broker else { continue };
                let mut open = accepting.open.lock().expect("no holder panics");
                for (from, to) in [(&client, &broker), (&broker, &client)] {
                    let (from, to) = (from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
                    let shared = accepting.clone();
                    std::thread::spawn(move || shared.forward(from, to));
                }
                open.extend([client, broker]);
            }
        });
        Self { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn set_target(&self, port: u16) {
        self.shared.target_port.store(port, Ordering::Relaxed);
    }

    pub fn close_connections(&self) {
        for stream in self.shared.open.lock().expect("no holder panics").drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Forwards nothing for this time.
    pub fn stall(&self, time: Duration) {
        self.disturb(STALL, time);
    }

    /// Forwards 50 KiB a second for this time.
    pub fn throttle(&self, time: Duration) {
        self.disturb(THROTTLE, time);
    }

    fn disturb(&self, mode: u8, time: Duration) {
        self.shared.mode.store(mode, Ordering::Relaxed);
        std::thread::sleep(time);
        self.shared.mode.store(PASS, Ordering::Relaxed);
    }
}

impl Shared {
    fn is(&self, mode: u8) -> bool {
        self.mode.load(Ordering::Relaxed) == mode
    }

    fn forward(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 16 * 1024];
        loop {
            let bytes_max = if self.is(THROTTLE) { 1024 } else { buffer.len() };
            let Ok(count @ 1..) = from.read(&mut buffer[..bytes_max]) else { break };
            while self.is(STALL) {
                std::thread::sleep(Duration::from_millis(5));
            }
            if self.is(THROTTLE) {
                std::thread::sleep(Duration::from_millis(20));
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}
