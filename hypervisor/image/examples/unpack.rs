//! Unpacks the payload of a boot image, or a bare payload, to a file: to compare with other tools, and to count
//! instructions (`valgrind --tool=callgrind`).

use image::{Container, Payload, Scratch};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, from, to] = arguments.as_slice() else {
        eprintln!("usage: unpack FILE OUTPUT");
        return ExitCode::FAILURE;
    };
    match unpack(from).and_then(|out| std::fs::write(to, out).map_err(|e| e.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{from} {error}");
            ExitCode::FAILURE
        }
    }
}

fn unpack(from: &str) -> Result<Vec<u8>, String> {
    let file = std::fs::read(from).map_err(|e| e.to_string())?;
    let payload = match Container::identify(&file) {
        Ok(Container::BzImage(image)) => image.payload(),
        _ => Payload::new(&file),
    };
    let len = payload.uncompressed_len().map_err(|e| e.to_string())?;
    let mut out = vec![0; len];
    let mut scratch = Box::new(Scratch::new());
    payload
        .decompress(&mut out, &mut scratch)
        .map_err(|e| e.to_string())?;
    Ok(out)
}
