;; Recursion with the smallest frame.
;; expect: stack-overflow
;; fuel: 1000000000
(module (memory (export "memory") 1)
  (func $f (export "_start") (call $f) (i32.store (i32.const 0) (i32.const 1))))
