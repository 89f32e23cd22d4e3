//! The link of the demo: a TCP proxy that can be cut and restored.
//!
//! While it is cut, every connection is dropped and new ones are closed at once, as a modem without a network does.

use std::cell::Cell;
use std::rc::Rc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Link {
    up: watch::Sender<bool>,
    /// Connections refused because the link was cut.
    refused: Rc<Cell<u64>>,
}

impl Link {
    pub fn new() -> Self {
        Self { up: watch::Sender::new(true), refused: Rc::default() }
    }

    pub fn set(&self, up: bool) {
        self.up.send_replace(up);
    }

    pub fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// Carries connections of a new loopback port to `target`; gives the port's address.
    pub async fn carry(&self, target: String) -> std::io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (up, refused) = (self.up.subscribe(), self.refused.clone());
        tokio::task::spawn_local(async move {
            // An accept that fails (too many files) ends the link: the demo then shows it as down.
            while let Ok((client, _)) = listener.accept().await {
                if *up.borrow() {
                    tokio::task::spawn_local(pass(client, target.clone(), up.clone()));
                } else {
                    refused.set(refused.get() + 1);
                }
            }
        });
        Ok(address)
    }
}

async fn pass(mut client: TcpStream, target: String, mut up: watch::Receiver<bool>) {
    let Ok(mut server) = TcpStream::connect(&target).await else { return };
    tokio::select! {
        // Either side ending it is what a proxy is for.
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = up.wait_for(|up| !up) => {}
    }
}
