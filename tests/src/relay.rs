//! A relay for datagrams between workers and a coordinator that loses some of them.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use crate::random::Random;

/// How often threads look whether they are to end.
const LOOK_UP: Duration = Duration::from_millis(100);

/// No datagram is longer.
const DATAGRAM_MAX: usize = 1 << 16;

/// A relay. It ends when it is dropped.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    /// Percentages of datagrams that are lost, to the coordinator and from it.
    loss_there: AtomicU8,
    loss_back: AtomicU8,
    ended: AtomicBool,
}

impl Relay {
    /// A relay to `coordinator`, which loses nothing so far.
    ///
    /// # Panics
    ///
    /// Where there is no socket for it.
    pub fn new(coordinator: SocketAddr) -> Self {
        let front = socket();
        let address = front.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            loss_there: AtomicU8::new(0),
            loss_back: AtomicU8::new(0),
            ended: AtomicBool::new(false),
        });
        let for_thread = shared.clone();
        thread::spawn(move || carry_there(&front, coordinator, &for_thread));
        Self { address, shared }
    }

    /// Where those connect who are to be relayed.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Loses these percentages of all datagrams from now on, to the coordinator and from it.
    pub fn lose(&self, there: u8, back: u8) {
        self.shared.loss_there.store(there, Ordering::Relaxed);
        self.shared.loss_back.store(back, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    let waiting = socket.set_read_timeout(Some(LOOK_UP));
    waiting.expect("a socket can have a timeout");
    socket
}

/// Every sender gets a socket of its own on the coordinator's side, as behind a router.
fn carry_there(front: &UdpSocket, coordinator: SocketAddr, shared: &Arc<Shared>) {
    let mut random = Random::new(1);
    let mut backs: HashMap<SocketAddr, UdpSocket> = HashMap::new();
    let mut datagram = vec![0; DATAGRAM_MAX];
    while !shared.ended.load(Ordering::Relaxed) {
        let Ok((length, sender)) = front.recv_from(&mut datagram) else {
            continue;
        };
        let back = backs.entry(sender).or_insert_with(|| {
            let back = socket();
            back.connect(coordinator).expect("loopback is there");
            let (for_thread, front) = (back.try_clone(), front.try_clone());
            let (for_thread, front) = (
                for_thread.expect("sockets can be shared"),
                front.expect("sockets can be shared"),
            );
            let shared = shared.clone();
            thread::spawn(move || carry_back(&for_thread, &front, sender, &shared));
            back
        });
        if random.below(100) >= u64::from(shared.loss_there.load(Ordering::Relaxed)) {
            // What cannot be sent is lost.
            let _ = back.send(&datagram[..length]);
        }
    }
}

fn carry_back(back: &UdpSocket, front: &UdpSocket, sender: SocketAddr, shared: &Shared) {
    let mut random = Random::new(2);
    let mut datagram = vec![0; DATAGRAM_MAX];
    while !shared.ended.load(Ordering::Relaxed) {
        let Ok(length) = back.recv(&mut datagram) else {
            continue;
        };
        if random.below(100) >= u64::from(shared.loss_back.load(Ordering::Relaxed)) {
            let _ = front.send_to(&datagram[..length], sender);
        }
    }
}
