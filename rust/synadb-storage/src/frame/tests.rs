use super::*;
use crate::identity::FRAMES_START;
use crate::log::{Shape, Start, Writer, recover};
use crate::record::RecordKind;
use crate::region::MemoryRegion;
use std::sync::Arc;
use synadb_types::TableId;

/// A log of one frame, whose payload is said to lie `further` bytes behind its place, where a
/// copy of it is.
fn forged(further: u32) -> Log {
    let identity = Identity { database_id: [7; 16], ..Identity::UNNAMED };
    let log = Log::new(Arc::new(MemoryRegion::with_capacity(1 << 20).expect("memory")), identity);
    let region = log.region();
    region.allocate(FRAMES_START + 4096).expect("space");
    let mut writer = Writer::new(FRAMES_START, 0, 0, 0, 0);
    let shape = Shape { records: 1, large: true, ..Shape::default() };
    let mut encoder = writer.encoder(&log, shape);
    let payload: Vec<u8> = (1..=200).collect();
    encoder.push(&Draft {
        kind: RecordKind::Put,
        tag: 0,
        flags: 0,
        table: TableId(1),
        key: b"k",
        previous: 0,
        payload: &payload,
        origin: None,
    });
    let mut image = encoder.finish().expect("small");
    let crc = crc32c(&payload).to_le_bytes();
    let at = 4 + image.front.windows(4).position(|bytes| bytes == crc).expect("there");
    let distance = u32::from_le_bytes(std::array::from_fn(|i| image.front[at + i])) + further;
    image.front[at..at + 4].copy_from_slice(&distance.to_le_bytes());
    let head = &mut image.head;
    head.crc = log.seed().frame_crc(head.offset, head.length, &image.front[8..]);
    let behind = head.offset + head.front_len as u64;
    for start in [behind, behind + u64::from(further)] {
        region.store(start, &payload).expect("stored");
    }
    region.store(FRAMES_START, &image.front).expect("stored");
    region.publish(FRAMES_START, image.first_word()).expect("published");
    log
}

#[test]
fn a_payload_outside_of_its_own_frame_is_no_record() {
    for (further, is_good) in [(0, true), (400, false)] {
        let log = forged(further);
        let head = log.frame(FRAMES_START).expect("its checksum fits").expect("a frame");
        let records: Vec<_> = Records::of(&head, log.region()).map(|(_, raw)| raw).collect();
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].is_some(), is_good, "{further} bytes further");
        let found = recover(&log, Start::beginning(), 0).expect("nothing was synced");
        assert_eq!((found.commits, found.torn), (u64::from(is_good), !is_good));
    }
}
