;; Prints the same large piece a thousand times in one call.
;; expect: output-too-large
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local i32)
    (loop $l
      (i32.store (i32.add (i32.const 4) (local.get 0)) (i32.const 65536))
      (local.set 0 (i32.add (local.get 0) (i32.const 8)))
      (br_if $l (i32.lt_u (local.get 0) (i32.const 8192))))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1024) (i32.const 8)))
    unreachable))
