;; Waits for a time that the clock reaches only by work.
;; expect: ok
(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 0)))
    (loop $l
      (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 8)))
      (br_if $l (i64.lt_u (i64.sub (i64.load (i32.const 8)) (i64.load (i32.const 0))) (i64.const 1000000))))
    (if (i32.ne (call $clock (i32.const 3) (i64.const 0) (i32.const 0)) (i32.const 28)) (then unreachable))))
