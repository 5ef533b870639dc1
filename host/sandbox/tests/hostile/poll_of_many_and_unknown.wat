;; Subscribes to what there is not: too many, unknown kinds, unknown clocks, closed descriptors.
;; expect: ok
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (if (i32.ne (call $poll (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0)) (i32.const 28)) (then unreachable))
    (if (i32.ne (call $poll (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)) (i32.const 28)) (then unreachable))
    (i32.store8 (i32.const 8) (i32.const 255))
    (i32.store (i32.const 64) (i32.const 99))
    (i32.store8 (i32.const 104) (i32.const 1)) (i32.store (i32.const 112) (i32.const 77))
    (if (call $poll (i32.const 0) (i32.const 1000) (i32.const 3) (i32.const 2000)) (then unreachable))
    (if (i32.ne (i32.load (i32.const 2000)) (i32.const 3)) (then unreachable))
    ;; Events over their own subscriptions.
    (if (call $poll (i32.const 0) (i32.const 0) (i32.const 3) (i32.const 4)) (then unreachable))))
