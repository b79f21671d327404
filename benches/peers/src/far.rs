//! `peers far`: passes connections on, and answers back late, as if the server were far away.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::clock;

/// Serves for ever. `delay` is the whole round trip's: requests pass at once, answers wait.
pub async fn serve(listen: SocketAddr, upstream: SocketAddr, delay: Duration) -> Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (client, _) = listener.accept().await?;
        tokio::spawn(async move {
            // A connection that breaks is the two ends' business.
            let _ = pass_on(client, upstream, delay).await;
        });
    }
}

async fn pass_on(client: TcpStream, upstream: SocketAddr, delay: Duration) -> Result<()> {
    let server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut requests, mut answers_out) = client.into_split();
    let (mut answers, mut requests_out) = server.into_split();
    let there = async move {
        tokio::io::copy(&mut requests, &mut requests_out).await?;
        anyhow::Ok(())
    };
    // Read as they come, so that many answers in a row are late once and not each after the other.
    let (late, mut due) = mpsc::unbounded_channel();
    let read = async move {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = answers.read(&mut buffer).await?;
            if count == 0 || late.send((clock::after(delay), buffer[..count].to_vec())).is_err() {
                return anyhow::Ok(());
            }
        }
    };
    let back = async move {
        while let Some((moment, bytes)) = due.recv().await {
            clock::sleep_until(moment).await;
            answers_out.write_all(&bytes).await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(there, read, back)?;
    Ok(())
}
