;; Works, then traps in a way that forgets what it burned.
;; expect: trap
(module (memory (export "memory") 1)
  (func (export "_start") (local i32)
    (loop $l (local.set 0 (i32.add (local.get 0) (i32.const 1)))
      (br_if $l (i32.lt_u (local.get 0) (i32.const 1000000))))
    (drop (i32.div_u (i32.const 1) (i32.const 0)))))
