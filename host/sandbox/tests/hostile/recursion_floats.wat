;; Recursion with values kept across the call.
;; expect: stack-overflow
;; fuel: 1000000000
(module (memory (export "memory") 1)
  (func $f (param f64 f64 f64 f64) (result f64)
    (f64.add
      (call $f (f64.add (local.get 0) (f64.const 1)) (local.get 0) (local.get 1) (local.get 2))
      (f64.mul (f64.mul (local.get 0) (local.get 1)) (f64.mul (local.get 2) (local.get 3)))))
  (func (export "_start")
    (drop (call $f (f64.const 1) (f64.const 2) (f64.const 3) (f64.const 4)))))
